"""What is odd or wrong in a detection data set: every case has a name, a count, and a behaviour that is stated here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from fewpairs.errors import DataError, InputError

Severity = Literal["note", "error"]
OnError = Literal["stop", "skip"]

SHOWN = 20
"""Places that a message names of each finding."""


@dataclass(frozen=True, slots=True)
class Issue:
    """One thing that can be odd: `what` it is, and what is `done` (an error: done where errors are skipped)."""

    severity: Severity
    what: str
    done: str


ISSUES: Mapping[str, Issue] = {
    "no-area": Issue("note", "boxes without area", "left out"),
    "outside": Issue("note", "boxes wholly outside of their image", "left out"),
    "clipped": Issue("note", "boxes partly outside of their image", "cut at its border"),
    "repeated-object": Issue("note", "objects listed twice with the same id", "the second one left out"),
    "repeated-id": Issue("note", "object ids used for different objects", "all kept"),
    "no-mask": Issue("note", "objects without a mask in a data set that has masks", "masks are not offered"),
    "empty-mask": Issue("note", "masks without a single pixel", "kept with their boxes"),
    "other-class": Issue("note", "objects of classes that were not asked for", "left out"),
    "difficult": Issue("note", "objects marked as difficult", "see the option difficult"),
    "unlisted": Issue("note", "annotated images in none of the lists of parts", "left out"),
    "no-size": Issue("note", "annotations without the image's size", "taken from the image file"),
    "turned": Issue("note", "images with an EXIF orientation", "read as stored: the tag is not followed"),
    "empty": Issue("note", "images without objects", "kept"),
    "unreadable": Issue("error", "files that cannot be read", "left out"),
    "missing-file": Issue("error", "image files that do not exist", "the images left out"),
    "missing-annotation": Issue("error", "listed images without an annotation file", "the images left out"),
    "other-size": Issue("error", "image files of another size than their annotations say", "the images left out"),
    "repeated-image": Issue("error", "images listed twice", "the second one left out"),
    "two-parts": Issue("error", "images in two parts", "kept in the first part only"),
    "bad-image": Issue("error", "image entries that cannot be used", "left out"),
    "unknown-class": Issue("error", "objects of unknown category ids or classes", "left out"),
    "missing-image": Issue("error", "objects of images that are not listed", "left out"),
    "bad-object": Issue("error", "object entries that cannot be used", "left out"),
    "bad-mask": Issue("error", "masks that cannot be used", "the objects left out"),
}
"""Every finding by name, notes first, in the order in which they are shown."""


class DamagedAnnotationsError(DataError):
    """A detection data set contradicts itself; `findings` holds every place by the name of what is wrong there."""

    def __init__(self, name: str, findings: Mapping[str, Sequence[str]]) -> None:
        self.findings = {kind: tuple(places) for kind, places in findings.items()}
        count = sum(map(len, findings.values()))
        shown = "".join(f"\n  {sentence(kind, places, done=False)}" for kind, places in findings.items())
        super().__init__(
            f"{name}: {count} thing{'' if count == 1 else 's'} wrong with its annotations; fix them, or leave out "
            f"what is concerned with on_error=skip:{shown}"
        )


@dataclass(slots=True)
class DetectionCheck:
    """What was found while a data set was opened: places by the name of the finding (see `ISSUES`)."""

    name: str
    found: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, place: str) -> None:
        """Count one more `kind` at `place`."""
        if kind not in ISSUES:
            raise KeyError(kind)
        self.found.setdefault(kind, []).append(place)

    def count(self, kind: str) -> int:
        """How many places there are of a finding."""
        return len(self.found.get(kind, ()))

    def sentences(self, *, errors: bool = True) -> tuple[str, ...]:
        """A sentence for each finding, with the first places by name; errors that were skipped on demand."""
        shown = (kind for kind in ISSUES if kind in self.found and (errors or not is_error(kind)))
        return tuple(sentence(kind, self.found[kind]) for kind in shown)

    def errors(self) -> tuple[str, ...]:
        """A sentence for each single place where something is wrong."""
        kinds = (kind for kind in ISSUES if kind in self.found and is_error(kind))
        return tuple(f"{ISSUES[kind].what}: {place}" for kind in kinds for place in self.found[kind])

    def finish(self, on_error: OnError) -> None:
        """Raises `DamagedAnnotationsError` with all errors at once, unless they are to be skipped."""
        if on_error not in ("stop", "skip"):
            raise InputError(f"on_error={on_error!r}: allowed are stop and skip")
        wrong = {kind: self.found[kind] for kind in ISSUES if kind in self.found and is_error(kind)}
        if wrong and on_error == "stop":
            raise DamagedAnnotationsError(self.name, wrong)

    def as_dict(self) -> dict[str, object]:
        """Plain data for JSON: of each finding what it is, what was done, and every place."""
        return {
            kind: {
                "severity": ISSUES[kind].severity,
                "what": ISSUES[kind].what,
                "done": ISSUES[kind].done,
                "count": len(self.found[kind]),
                "places": list(self.found[kind]),
            }
            for kind in ISSUES
            if kind in self.found
        }


def is_error(kind: str) -> bool:
    """Whether a finding stops the opening of a data set."""
    return ISSUES[kind].severity == "error"


def sentence(kind: str, places: Sequence[str], *, done: bool = True) -> str:
    """`2 boxes without area, left out: a.jpg object 3; b.jpg object 1`."""
    finding = ISSUES[kind]
    more = f"; and {len(places) - SHOWN} more" if len(places) > SHOWN else ""
    did = f", {finding.done}" if done else ""
    return f"{len(places)} {finding.what}{did}: {'; '.join(places[:SHOWN])}{more}"
