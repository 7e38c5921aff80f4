"""The oddities and errors that a detection data set can have, each with a name and a stated treatment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from fewpairs.errors import DataError, InputError

Severity = Literal["note", "error"]
OnError = Literal["stop", "skip"]

SHOWN = 20
"""Largest number of places that a message names for each issue."""


@dataclass(frozen=True, slots=True)
class Issue:
    """A kind of oddity or error: `what` it is, and what is `done` (for errors, only if they are skipped)."""

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
    "other-file": Issue("note", "files that no reader takes", "left out"),
    "no-annotation": Issue("note", "images without an annotation file", "left out"),
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
    "bad-mask": Issue("error", "masks that cannot be used", "their boxes kept where no mask is needed"),
    "one-number": Issue("error", "label maps whose objects all have one number", "read as one object each"),
}
"""Every issue by name, notes first, in the order in which they are shown."""


class DamagedAnnotationsError(DataError):
    """A detection data set contradicts itself; `issues` holds every place by the name of the issue."""

    def __init__(self, name: str, issues: Mapping[str, Sequence[str]]) -> None:
        self.issues = {kind: tuple(places) for kind, places in issues.items()}
        count = sum(map(len, issues.values()))
        shown = "".join(f"\n  {sentence(kind, places, done=False)}" for kind, places in issues.items())
        super().__init__(
            f"{name} has {count} error{'' if count == 1 else 's'} in its annotations; fix them, or skip what is "
            f"affected with on_error=skip:{shown}"
        )


@dataclass(slots=True)
class DetectionCheck:
    """The issues found while a data set was opened: places by the name of the issue (see `ISSUES`)."""

    name: str
    found: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, place: str) -> None:
        """Record an issue `kind` at `place`."""
        if kind not in ISSUES:
            raise KeyError(kind)
        self.found.setdefault(kind, []).append(place)

    def count(self, kind: str) -> int:
        """Return the number of places with an issue."""
        return len(self.found.get(kind, ()))

    def sentences(self, *, errors: bool = True, shown: int = SHOWN) -> tuple[str, ...]:
        """Return a sentence for each issue with its first places; `errors` includes the skipped errors."""
        kinds = (kind for kind in ISSUES if kind in self.found and (errors or not is_error(kind)))
        return tuple(sentence(kind, self.found[kind], shown=shown) for kind in kinds)

    def errors(self) -> tuple[str, ...]:
        """Return a sentence for each single place with an error."""
        kinds = (kind for kind in ISSUES if kind in self.found and is_error(kind))
        return tuple(f"{ISSUES[kind].what}: {place}" for kind in kinds for place in self.found[kind])

    def finish(self, on_error: OnError) -> None:
        """Raise `DamagedAnnotationsError` with all errors at once, unless `on_error` is "skip"."""
        if on_error not in ("stop", "skip"):
            raise InputError(f"on_error={on_error!r}: allowed are stop and skip")
        wrong = {kind: self.found[kind] for kind in ISSUES if kind in self.found and is_error(kind)}
        if wrong and on_error == "stop":
            raise DamagedAnnotationsError(self.name, wrong)

    def as_dict(self) -> dict[str, object]:
        """Return plain data for JSON: each issue with its description, its treatment and every place."""
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
    """Return whether an issue is an error, which stops the opening of a data set."""
    return ISSUES[kind].severity == "error"


def sentence(kind: str, places: Sequence[str], *, done: bool = True, shown: int = SHOWN) -> str:
    """Describe an issue: `2 boxes without area, left out: a.jpg object 3; b.jpg object 1`."""
    finding = ISSUES[kind]
    more = f"; and {len(places) - shown} more" if len(places) > shown else ""
    did = f", {finding.done}" if done else ""
    return f"{len(places)} {finding.what}{did}: {'; '.join(places[:shown])}{more}"
