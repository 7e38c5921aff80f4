"""Images of a run's best, median and worst case for its report."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch

from fewpairs.kinds.kind import Built
from fewpairs.kinds.segmentation.dataset import SegmentationItems
from fewpairs.kinds.segmentation.empty import EmptyRule
from fewpairs.kinds.segmentation.record import SegmentationRecord
from fewpairs.kinds.segmentation.scores import scores_by_case
from fewpairs.report import Overlay
from fewpairs.report.overlay import overlay_strip
from fewpairs.scoring.ranking import Rank, best_median_worst
from fewpairs.scoring.score_table import find_score
from fewpairs.train import load_weights
from fewpairs.train.run_folder import Weights, weights_file

if TYPE_CHECKING:
    from fewpairs.kinds.segmentation.experiment import SegmentationExperiment


def show_cases(
    experiment: SegmentationExperiment,
    folder: Path,
    records: Sequence[SegmentationRecord],
    *,
    weights: Weights,
    headline: str,
    chosen_by: Sequence[SegmentationRecord],
    built: Built | None = None,
) -> tuple[Overlay, ...]:
    """Show the best, median and worst case by the records `chosen_by`: image, truth, prediction, errors in one row."""
    built = experiment.build(progress=False) if built is None else built
    load_weights(weights_file(folder, weights), built.model)
    built.model.cpu().eval()
    validation = cast(SegmentationItems, built.validation)
    overlays = []
    values = scores_by_case(records, rule=built.task.rule)
    for rank, (case, _) in ranked_cases(chosen_by, headline, built.task.rule).items():
        value = values[case][headline]
        scan = next(scan for scan in validation if scan.case == case)
        fullest = int(scan.mask.flatten(1).sum(1).argmax())
        with torch.no_grad():
            logits = built.model(scan.image[fullest : fullest + 1])
        predicted = built.task.masks(logits, scan.geometry)[0]
        if scan.ignored is not None:
            predicted &= ~scan.ignored[fullest]
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


def ranked_cases(
    records: Sequence[SegmentationRecord], score: str, rule: EmptyRule = EmptyRule.STRICT
) -> dict[Rank, tuple[str, float]]:
    """Return the best, the median and the worst case by `score`, with its value; fewer if there are fewer cases."""
    scored = [
        (value[score], case)
        for case, value in scores_by_case(records, rule=rule).items()
        if not math.isnan(value[score])
    ]
    return best_median_worst(sorted(scored, reverse=find_score(score, records[0].classes).higher_is_better))
