"""Scores of features by the classes of their nearest neighbours, without training."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fewpairs.errors import InputError
from fewpairs.kinds.classification.record import ClassificationRecord
from fewpairs.scoring.score_table import FEATURE_SCORES
from fewpairs.types import Exemplars

_PAIRS = 2**25
"""Maximum number of similarities in memory: 128 MiB of float32."""

_LEAST = 1e-12
"""Share of the votes that replaces 0 in a logarithm."""


@dataclass(frozen=True, slots=True, eq=False)
class FeatureRecord:
    """Features of some images of one part."""

    part: Literal["bank", "query"]
    ids: tuple[str, ...]
    label: Tensor
    """`[b]` int64."""
    feature: Tensor
    """`[b c]` float16, unit vectors."""
    classes: tuple[str, ...]
    """Names of the classes, the same for all images of an evaluation."""


class NeighbourMetric:
    """Accuracy of a weighted vote of nearest neighbours, as in Wu et al. (arXiv 1805.01978, section 3.4) and DINO.

    Each `query` image looks up its `neighbours` most similar images in the `bank` (all of it, where it holds fewer);
    each votes for its class with weight `exp(cosine / temperature)`. Classes of equal votes rank by their number, and
    a class without votes is not found.
    """

    def __init__(self, classes: Sequence[str], *, neighbours: int = 20, temperature: float = 0.07) -> None:
        if isinstance(classes, str) or len(classes) < 2:
            raise InputError(f"classes={classes!r}: a vote needs the names of at least two classes")
        if neighbours < 1:
            raise InputError(f"neighbours={neighbours}: at least one must vote")
        if not 0 < temperature < math.inf:
            raise InputError(f"temperature={temperature}: a temperature is positive")
        self.classes, self.neighbours, self.temperature = tuple(classes), neighbours, temperature
        self._records: list[FeatureRecord] = []

    def update(self, prediction: Tensor, item: Exemplars) -> FeatureRecord:
        """Take in the unit features `[b c]` of an item's images. Returns its record."""
        if prediction.ndim != 2 or len(prediction) != len(item.ids):
            raise InputError(
                f"expected features [{len(item.ids)} c] of the item's images, got {list(prediction.shape)}"
            )
        outside = (item.label < 0) | (item.label >= len(self.classes))
        if bool(outside.any()):
            raise InputError(
                f"image {item.ids[int(outside.nonzero()[0])]} has the label {int(item.label[outside][0])}; "
                f"with {len(self.classes)} classes labels run from 0 to {len(self.classes) - 1}"
            )
        record = FeatureRecord(item.part, item.ids, item.label.cpu(), prediction.cpu().half(), self.classes)
        self._records.append(record)
        return record

    def merge(self, records: Iterable[FeatureRecord]) -> None:
        """Take in records that another process counted."""
        self._records += records

    @property
    def records(self) -> list[FeatureRecord]:
        """One record an item, in the order in which they came."""
        return list(self._records)

    def compute(self) -> dict[str, float]:
        """`FEATURE_SCORES` by name; NaN where there is no query, or no bank to look it up in.

        `spread` is the standard deviation of the queries' unit features, its mean over the dimensions times the root of
        their number: near 1 where features point everywhere, and 0 where they have collapsed to a point.
        """
        ranks = [record.rank for record in self.votes()]
        scores = {"knn_top1": _share(ranks, 1)}
        if len(self.classes) >= FEATURE_SCORES["knn_top5"].least_classes:
            scores["knn_top5"] = _share(ranks, 5)
        return scores | {"spread": _spread(self._part("query")[1]) if ranks else math.nan}

    def votes(self) -> list[ClassificationRecord]:
        """A record for each query, as of a classifier whose outputs are the votes; none without queries or bank.

        A class that is not found has the last rank.
        """
        (labels, features), (known, bank) = self._part("query"), self._part("bank")
        if len(labels) == 0 or len(known) == 0:
            return []
        ids = [name for record in self._records if record.part == "query" for name in record.ids]
        step, votes = max(1, _PAIRS // len(known)), []
        for query in features.split(step):
            near, index = (query @ bank.T).topk(min(self.neighbours, len(known)), dim=1)
            votes.append(count_votes(near, known[index], len(self.classes), self.temperature))
        shares = torch.cat(votes)
        shares /= shares.sum(dim=1, keepdim=True)
        own = shares.gather(1, labels[:, None])[:, 0].clamp_min(_LEAST)
        ranks, first, most, surprise = (
            column.tolist()
            for column in (true_ranks(shares, labels), shares.argmax(dim=1), shares.amax(dim=1), -own.log())
        )
        found = []
        for row, (name, label) in enumerate(zip(ids, labels.tolist(), strict=True)):
            if not math.isfinite(most[row]):
                found.append(ClassificationRecord(name, label, None, None, None, None, self.classes))
                continue
            found.append(
                ClassificationRecord(name, label, ranks[row], first[row], most[row], surprise[row], self.classes)
            )
        return found

    def _part(self, part: str) -> tuple[Tensor, Tensor]:
        """Labels `[n]` and float32 features `[n c]` of a part."""
        records = [record for record in self._records if record.part == part]
        if not records:
            return torch.empty(0, dtype=torch.int64), torch.empty(0, 1)
        label, feature = torch.cat([r.label for r in records]), torch.cat([r.feature for r in records])
        return label, feature.float()


def count_votes(cosine: Tensor, label: Tensor, classes: int, temperature: float) -> Tensor:
    """Neighbours' cosines `[n k]`, most similar first, and classes `[n k]` -> votes `[n classes]`, 1 for the first."""
    weights = ((cosine - cosine[:, :1]).double() / temperature).exp()
    return weights.new_zeros(len(cosine), classes).scatter_add_(1, label, weights)


def true_ranks(votes: Tensor, label: Tensor) -> Tensor:
    """The place, from 1, of the true class: `[n classes]`, `[n]` -> `[n]`; the last one where it has no votes."""
    own = votes.gather(1, label[:, None])
    lower = torch.arange(votes.shape[1])[None] < label[:, None]
    before = ((votes > own) | ((votes == own) & lower)).sum(dim=1)
    return (before + 1).where(own[:, 0] > 0, votes.shape[1])


def _spread(features: Tensor) -> float:
    return float(features.std(dim=0, correction=0).mean()) * math.sqrt(features.shape[1])


def _share(ranks: Sequence[int | None], places: int) -> float:
    """Return the share of the images whose true class is among the first `places`."""
    return sum(rank is not None and rank <= places for rank in ranks) / len(ranks) if ranks else math.nan
