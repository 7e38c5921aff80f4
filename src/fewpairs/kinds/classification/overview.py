"""Contents of a labelled data set: images of each class and part, files left out, damage."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fewpairs.data.duplicates import duplicate_notes
from fewpairs.data.overview import DataOverview
from fewpairs.data.patients import patient_notes
from fewpairs.data.pictures import turned_notes
from fewpairs.kinds.classification.check import find_damage
from fewpairs.kinds.classification.layouts.open import LabelledOptions, open_labelled
from fewpairs.kinds.classification.source import LabelledSource
from fewpairs.kinds.classification.split import image_stems


@dataclass(frozen=True, slots=True)
class Overview:
    """Counts and damage of a labelled data set."""

    name: str
    classes: tuple[str, ...]
    channels: int
    counts: dict[str, dict[str, int]]
    """Number of images by part and class."""
    notes: tuple[str, ...]
    """Sentences on files left out and harmless oddities."""
    problems: tuple[str, ...]
    """Sentence for each image that cannot be read."""

    @property
    def images(self) -> int:
        """Number of images, including damaged ones."""
        return sum(sum(counted.values()) for counted in self.counts.values())

    def as_dict(self) -> dict[str, object]:
        """Return plain data for JSON."""
        return {
            "name": self.name,
            "classes": list(self.classes),
            "channels": self.channels,
            "images": self.images,
            "counts": self.counts,
            "notes": list(self.notes),
            "errors": list(self.problems),
        }


def look_over(source: LabelledSource, *, decode: bool = False, progress: bool = True) -> Overview:
    """Count and check the images of `source`; see `check.check_images` for what `decode` adds."""
    everything = np.arange(len(source), dtype=np.int64)
    problems, turned = find_damage(source, everything, decode=decode, cache=None, progress=progress)
    counts = {part: source.counts(part) for part in source.parts}
    notes = [*source.notes, *turned_notes(turned)]
    if source.file(0) is not None:
        named = {part: image_stems(source, source.indices(part)) for part in source.parts}
        notes += patient_notes(named, "data.split.case_pattern")
        files = (
            (f"{source.id(i)}", source.file(i), part) for part in source.parts for i in source.indices(part).tolist()
        )
        notes += duplicate_notes([(name, path, part) for name, path, part in files if path is not None])
    return Overview(source.name, source.classes, source.channels, counts, tuple(notes), tuple(problems))


def overview(kind: str, root: Path | str, options: LabelledOptions, *, decode: bool, progress: bool) -> DataOverview:
    """Return the output of `fewpairs data check` for a labelled data set."""
    found = look_over(open_labelled(kind, root, options), decode=decode, progress=progress)
    colour = "grey" if found.channels == 1 else "colour"
    failure = f"{len(found.problems)} of {found.images} images of {found.name} cannot be read; the first: "
    return DataOverview(
        name=found.name,
        kind=kind,
        summary=f"{found.images:,} images of {len(found.classes)} classes, {colour}",
        parts={name: sum(part.values()) for name, part in found.counts.items()},
        columns=tuple(found.counts),
        classes={name: [f"{part[name]:,}" for part in found.counts.values()] for name in found.classes},
        totals={"together": [f"{sum(part.values()):,}" for part in found.counts.values()]},
        notes=found.notes,
        errors=found.problems,
        failure=failure + found.problems[0] if found.problems else None,
        content={"kind": kind, **found.as_dict()},
    )
