"""Digests of the images and labels of each part, by which a run recognises the data on which it was trained."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class PartIdentity:
    """Number of images or scans of a part, and digests of their names and of their labels."""

    count: int
    images: str
    labels: str

    @classmethod
    def of(cls, entries: Iterable[tuple[str, bytes]]) -> Self:
        """Make the identity of a part from its images, each with a name (or what else identifies it) and its label."""
        names, labels, count = hashlib.sha256(), hashlib.sha256(), 0
        for name, label in entries:
            count += 1
            for digest, content in ((names, name.encode("utf-8", "surrogateescape")), (labels, label)):
                digest.update(len(content).to_bytes(8, "little") + content)
        return cls(count, names.hexdigest()[:16], labels.hexdigest()[:16])


@dataclass(frozen=True, slots=True)
class DataIdentity:
    """Identity of the training and of the validation images of a run."""

    train: PartIdentity
    validation: PartIdentity

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON, from which `from_dict` makes an equal object."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Invert `to_dict`. Raises KeyError or TypeError if the data is something else."""
        return cls(PartIdentity(**data["train"]), PartIdentity(**data["validation"]))

    def changes(self, found: DataIdentity) -> list[str]:
        """Return a clause for each way in which `found` differs from this identity."""
        said = []
        for name, mine, other in (
            ("training", self.train, found.train),
            ("validation", self.validation, found.validation),
        ):
            if mine.count != other.count:
                said.append(f"{other.count} {name} images or scans instead of {mine.count}")
            elif mine.images != other.images:
                said.append(f"other {name} images")
            elif mine.labels != other.labels:
                said.append(f"other labels of the {name} images")
        return said

    @property
    def short(self) -> str:
        """Eight digits that stand for all images and their labels, for names of files."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:8]
