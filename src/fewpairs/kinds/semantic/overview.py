"""Output of `fewpairs data check` for images with label maps."""

from __future__ import annotations

from pathlib import Path

from fewpairs.data.duplicates import duplicate_notes
from fewpairs.data.overview import DataOverview
from fewpairs.data.patients import patient_notes, stems_of
from fewpairs.kinds.semantic.check import summarize_images
from fewpairs.kinds.semantic.layouts.open import SemanticOptions, open_semantic


def overview(kind: str, root: Path | str, options: SemanticOptions, *, decode: bool, progress: bool) -> DataOverview:
    """Count the images of each part and, with `decode`, the share of each class in their pixels."""
    source = open_semantic(kind, root, options)
    found = summarize_images(source, decode=decode, progress=progress)
    notes, classes, totals = list(found.notes), {}, {}
    if found.pixels is None:
        notes.append("sizes were compared; --decode reads every label and counts the pixels of each class")
    else:
        whole = {part: max(1, sum(counts.values())) for part, counts in found.pixels.items()}
        cells = {
            name: [f"{100 * counts[name] / whole[part]:.2f} %" for part, counts in found.pixels.items()]
            for name in (*source.classes, "(not scored)")
        }
        totals["(not scored)"], classes = cells.pop("(not scored)"), cells
    totals["images"] = [f"{count:,}" for count in found.images.values()]
    named = {part: stems_of([one.image.name for one in files]) for part, files in source.parts.items()}
    notes += patient_notes(named, "data.source.case_pattern", pattern=options.case_pattern)
    notes += duplicate_notes([(one.id, one.image, part) for part, files in source.parts.items() for one in files])
    colour = "grey" if source.channels == 1 else "colour"
    failure = f"{source.name} has {len(found.problems)} problems; the first: "
    return DataOverview(
        name=source.name,
        kind=kind,
        summary=f"{sum(found.images.values()):,} images with label maps of {len(source.classes)} classes, {colour}",
        parts=found.images,
        columns=tuple(found.images),
        classes=classes,
        totals=totals,
        notes=notes,
        errors=found.problems,
        failure=failure + found.problems[0] if found.problems else None,
        content={"kind": kind, "name": source.name, "classes": list(source.classes), **found.as_dict(), "notes": notes},
    )
