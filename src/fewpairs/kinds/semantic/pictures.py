"""A run's best, median and worst image for its report: image, truth, prediction and errors in one row."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from fewpairs.kinds.kind import Built
from fewpairs.kinds.semantic.dataset import SemanticItems
from fewpairs.kinds.semantic.overlays import label_strip
from fewpairs.kinds.semantic.record import SemanticRecord
from fewpairs.kinds.semantic.scores import semantic_scores
from fewpairs.report import Overlay
from fewpairs.scoring.ranking import Rank, best_median_worst
from fewpairs.train import load_weights
from fewpairs.train.run_folder import Weights, weights_file

if TYPE_CHECKING:
    from fewpairs.kinds.semantic.experiment import SemanticExperiment


def show_images(
    experiment: SemanticExperiment,
    folder: Path,
    records: Sequence[SemanticRecord],
    *,
    weights: Weights,
    headline: str,
    chosen_by: Sequence[SemanticRecord],
    built: Built | None = None,
) -> tuple[Overlay, ...]:
    """Show the best, median and worst image by the records `chosen_by`: image, truth, prediction, errors in one row."""
    shown = ranked_images(chosen_by, headline)
    if not shown:
        return ()
    built = experiment.build(progress=False) if built is None else built
    load_weights(weights_file(folder, weights), built.model)
    model = experiment.inference_model(built.model).cpu().eval()
    validation = cast(SemanticItems, built.validation)
    places = {files.id: place for place, files in enumerate(validation.files)}
    overlays = []
    found_records = {record.id: record for record in records}
    for rank, (name, _) in shown.items():
        value = semantic_scores([found_records[name]])[headline]
        scene = validation[places[name]]
        picture, _ = validation.source.read(validation.files[places[name]])
        with torch.no_grad():
            found = built.task.predict(model(scene.image), scene)[0]
        strip = label_strip(
            np.asarray(picture), scene.label.numpy(), found.numpy(), built.task.classes, validation.source.colours
        )
        buffer = io.BytesIO()
        strip.save(buffer, format="PNG", optimize=True)
        caption = f"{rank} image {name}: {headline} {value:.3f} of its own pixels"
        overlays.append(Overlay(rank=rank, caption=caption, png=buffer.getvalue()))
    return tuple(overlays)


def ranked_images(records: Sequence[SemanticRecord], score: str) -> dict[Rank, tuple[str, float]]:
    """Return the best, the median and the worst image by `score` of its own pixels, with its value."""
    valued = [(semantic_scores([record])[score], record.id) for record in records]
    return best_median_worst(sorted((pair for pair in valued if not math.isnan(pair[0])), reverse=True))
