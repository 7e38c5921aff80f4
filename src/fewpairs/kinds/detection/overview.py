"""Output of `fewpairs data check` for images with boxes and masks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fewpairs.data.description import Check
from fewpairs.data.duplicates import duplicate_notes
from fewpairs.data.overview import DataOverview
from fewpairs.data.patients import patient_notes, stems_of
from fewpairs.kinds.detection.layouts.open import open_detection
from fewpairs.kinds.detection.options import DetectionOptions


def overview(kind: str, root: Path | str, options: DetectionOptions, *, decode: bool, progress: bool) -> DataOverview:
    """Count the images and objects of each class and part, and list all oddities and errors."""
    look: Check = "decode" if decode else "header"
    source = open_detection(kind, root, replace(options, on_error="skip"), look=look)
    wrong = source.check.errors()
    counts = {part: source.counts(part) for part in source.parts}
    objects, masks = len(source.table.labels), "with masks" if source.has_masks else "boxes alone"
    named = {part: stems_of([one.id for one in source.part(part)]) for part in source.parts}
    files = [(f"{part}/{one.id}", one.file, part) for part in source.parts for one in source.part(part)]
    notes = (*patient_notes(named, "data.split.case_pattern"), *duplicate_notes(files))
    failure = f"{source.name} has {len(wrong)} errors; the first: "
    return DataOverview(
        name=source.name,
        kind=kind,
        summary=f"{len(source):,} images, {objects:,} objects of {len(source.classes)} classes, {masks}",
        parts={part: len(source.part(part)) for part in source.parts},
        facts={"parts": source.split},
        columns=source.parts,
        classes={name: [f"{part[name]:,}" for part in counts.values()] for name in source.classes},
        totals={
            "objects": [f"{sum(part.values()):,}" for part in counts.values()],
            "crowds": [f"{source.crowds(part):,}" for part in counts],
            "images": [f"{len(source.part(part)):,}" for part in counts],
        },
        notes=(*source.check.sentences(errors=False), *notes),
        errors=wrong,
        failure=failure + wrong[0] if wrong and options.on_error == "stop" else None,
        content={
            "kind": kind,
            "name": source.name,
            "classes": list(source.classes),
            "masks": source.has_masks,
            "split": source.split,
            "images": len(source),
            "counts": {part: {"images": len(source.part(part)), "objects": counts[part]} for part in counts},
            "findings": source.check.as_dict(),
            "errors": list(wrong),
            "notes": list(notes),
        },
    )
