"""Small detection data sets on disk, right in everything until a test changes something."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fewpairs.data.description import Check
from fewpairs.data.split import Split
from fewpairs.kinds.detection.layouts.open import open_detection
from fewpairs.kinds.detection.options import DetectionOptions
from fewpairs.kinds.detection.source import DetectionSource

SIZE = (40, 60)
"""Height and width of every picture."""
CATEGORIES = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]
Content = dict[str, Any]


def picture(path: Path, size: tuple[int, int] = SIZE, mode: str = "RGB", **options: Any) -> Path:
    pixels = np.random.default_rng(len(path.name)).integers(0, 256, (*size, 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).convert(mode).save(path, **options)
    return path


def coco_content(images: int = 3) -> Content:
    """Three pictures: a polygon and plain runs in the first, a crowd of packed runs in the second, none in a third."""
    runs = [10 * 40, 5, 35, 5, 60 * 40 - 10 * 40 - 45]
    return {
        "images": [{"id": 10 + i, "file_name": f"{i}.png", "height": SIZE[0], "width": SIZE[1]} for i in range(images)],
        "categories": [dict(one) for one in CATEGORIES],
        "annotations": [
            {
                "id": 1,
                "image_id": 10,
                "category_id": 3,
                "bbox": [5, 6, 10, 8],
                "area": 70.5,
                "iscrowd": 0,
                "segmentation": [[5, 6, 15, 6, 15, 14, 5, 14]],
            },
            {
                "id": 2,
                "image_id": 10,
                "category_id": 7,
                "bbox": [10, 0, 2, 5],
                "area": 10,
                "iscrowd": 0,
                "segmentation": {"size": list(SIZE), "counts": runs},
            },
            {
                "id": 3,
                "image_id": 11,
                "category_id": 7,
                "bbox": [0, 0, 60, 40],
                "area": 2400,
                "iscrowd": 1,
                "segmentation": {"size": list(SIZE), "counts": "0P[2"},
            },
        ],
    }


def make_coco(root: Path, change: Callable[[Content], object] = lambda content: None, part: str = "train2017") -> Path:
    """A part of a COCO data set, after `change` has changed its content."""
    content = coco_content()
    for entry in content["images"]:
        picture(root / part / entry["file_name"])
    change(content)
    path = root / "annotations" / f"instances_{part}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return root


def voc_object(name: str, box: tuple[float, float, float, float], difficult: int = 0) -> str:
    edges = "".join(f"<{tag}>{value}</{tag}>" for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{edges}</bndbox></object>"


def voc_file(root: Path, name: str, *objects: str, size: tuple[int, int] = SIZE, extra: str = "") -> None:
    """One picture with its annotation."""
    picture(root / "JPEGImages" / f"{name}.png")
    sides = f"<size><width>{size[1]}</width><height>{size[0]}</height><depth>3</depth></size>"
    path = root / "Annotations" / f"{name}.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"<annotation>{extra}<filename>other.jpg</filename>{sides}{''.join(objects)}</annotation>")


def voc_list(root: Path, part: str, *names: str) -> None:
    path = root / "ImageSets" / "Main" / f"{part}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names))


def make_voc(root: Path) -> Path:
    """Five pictures in three parts."""
    voc_file(root, "a", voc_object("cat", (1, 2, 11, 12)), voc_object("dog", (0, 0, 60, 40)))
    voc_file(root, "b", voc_object("cat", (5, 5, 9, 9), difficult=1))
    voc_file(root, "c")
    voc_file(root, "d", voc_object("dog", (3.5, 4.25, 20, 30)))
    voc_file(root, "e", voc_object("dog", (3, 4, 20, 30)))
    voc_list(root, "train", "a", "b", "c")
    voc_list(root, "val", "d")
    voc_list(root, "test", "e")
    return root


def make_maps(root: Path) -> Path:
    """Three pictures with label maps of 16 bits, one of each part, and an index."""
    (root / "masks").mkdir(parents=True)
    rows = ["id,width,height,split"]
    for place, part in enumerate(("train", "val", "test")):
        picture(root / "images" / f"{part}.png", mode="L" if place else "RGB")
        labels = np.zeros(SIZE, np.uint16)
        labels[2:8, 3:9] = 1
        labels[20:30, 40:60] = 300 + place
        labels[22:24, 41:43] = 2
        Image.fromarray(labels).save(root / "masks" / f"{part}.png")
        rows.append(f"{part},{SIZE[1]},{SIZE[0]},{part}")
    (root / "index.csv").write_text("\n".join(rows) + "\n")
    return root


def opened(root: Path, look: Check = "header", **options: object) -> DetectionSource:
    return open_detection("coco", root, DetectionOptions(**options), split=Split(fraction=0.0), look=look)  # type: ignore[arg-type]
