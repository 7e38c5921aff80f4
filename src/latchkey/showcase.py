"""Which cases a report shows: the best, the median and the worst of an evaluation, each by its fullest slice."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path

import torch

from latchkey.experiment import Built, Experiment, Weights, build, weights_file
from latchkey.metrics import EmptyRule, ScanStatistics, find_score, scores_by_case
from latchkey.report import Overlay
from latchkey.report.comparison import Rank
from latchkey.report.overlay import overlay_strip
from latchkey.train import load_weights


def ranked_cases(
    records: Sequence[ScanStatistics], score: str, rule: EmptyRule = EmptyRule.STRICT
) -> dict[Rank, tuple[str, float]]:
    """The best, the median and the worst case by `score`, with its value; fewer entries where there are fewer cases."""
    scored = [
        (value[score], case)
        for case, value in scores_by_case(records, rule=rule).items()
        if not math.isnan(value[score])
    ]
    ordered = sorted(scored, reverse=find_score(score, records[0].classes).higher_is_better)
    places: dict[Rank, int] = {"best": 0, "median": (len(ordered) - 1) // 2, "worst": len(ordered) - 1}
    shown: dict[Rank, tuple[str, float]] = {}
    for rank, place in places.items():
        if ordered and all(ordered[place][1] != case for case, _ in shown.values()):
            shown[rank] = (ordered[place][1], ordered[place][0])
    return shown


def showcase(
    experiment: Experiment,
    folder: Path,
    records: Sequence[ScanStatistics],
    *,
    weights: Weights,
    headline: str,
    built: Built | None = None,
) -> tuple[Overlay, ...]:
    """Pictures of a run's best, median and worst case: image, truth, prediction and errors in one row."""
    built = build(experiment, progress=False) if built is None else built
    load_weights(weights_file(folder, weights), built.segmenter)
    built.segmenter.cpu().eval()
    overlays = []
    for rank, (case, value) in ranked_cases(records, headline, built.task.rule).items():
        scan = next(scan for scan in built.validation if scan.case == case)
        fullest = int(scan.mask.flatten(1).sum(1).argmax())
        with torch.no_grad():
            logits = built.segmenter(scan.image[fullest : fullest + 1])
        predicted = built.task.predict(logits, scan.geometry)[0]
        middle = scan.image[fullest, scan.image.shape[1] // 2]
        native = scan.geometry.invert(middle[None, None])[0, 0]
        picture = overlay_strip(
            native.numpy(), scan.mask[fullest].numpy(), predicted.numpy(), built.task.classes, title=""
        )
        buffer = io.BytesIO()
        picture.save(buffer, format="PNG", optimize=True)
        caption = f"{rank} case {case}: {headline} {value:.3f}; {scan.slice_ids[fullest]}"
        overlays.append(Overlay(rank=rank, caption=caption, png=buffer.getvalue()))
    return tuple(overlays)
