"""COCO files with any content: what is no object is refused, and nothing else happens."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from detection_files import SIZE, coco_content, make_coco, opened
from hypothesis import given
from hypothesis import strategies as st

from fewpairs.errors import InputError
from fewpairs.kinds.detection.layouts.coco_objects import BadObjectError, read_object

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 3000) | st.just(10**400) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.sampled_from(["size", "counts"]), inner),
    max_leaves=12,
)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(("bbox", "area", "iscrowd", "segmentation"), VALUES)))
def test_any_entry_is_an_object_or_refused(entry: dict[str, object]) -> None:
    try:
        found = read_object(entry, SIZE, 0, "here")
    except BadObjectError as error:
        kind = error.kind
    else:
        kind = "bad-object" if all(np.isfinite(found.box)) else "an object without a box"
    assert kind in ("bad-object", "bad-mask")


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_coco(tmp_path_factory.mktemp("coco"))


@given(st.data())
def test_whatever_is_changed_is_read_or_refused(right: Path, data: st.DataObject) -> None:
    content = coco_content()
    place: object = content
    for _ in range(data.draw(st.integers(1, 5))):
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))  # type: ignore[arg-type, call-overload]
        if not keys:
            break
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], list | dict) or data.draw(st.booleans()):  # type: ignore[index]
            place[key] = data.draw(VALUES)  # type: ignore[index]
            break
        place = place[key]  # type: ignore[index]
    path = right / "annotations" / "instances_train2017.json"
    path.write_text(json.dumps(content))
    for on_error in ("stop", "skip"):
        try:
            source = opened(right, on_error=on_error)
        except InputError:
            continue
        for record in source.records:
            record.objects(masks=source.has_masks)
        assert all(source.check.sentences())
