"""Reports of classifications: percent, images, epochs, both intervals, confusions, and no word of masks."""

from __future__ import annotations

import html
import io
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from matplotlib.patches import Rectangle
from rich.console import Console

from fewpairs.report import (
    Comparison,
    Difference,
    Estimate,
    comparison_markdown,
    comparison_report,
    print_comparison,
    read_comparison,
    run_report,
    score_text,
    write_comparison,
)
from fewpairs.report.confusion import confusion_figure, confusion_matrix, confusions_table
from fewpairs.report.curves import curves_figure, run_figure
from fewpairs.report.figures import difference_figure, score_figure
from fewpairs.report.methods import methods
from fewpairs.report.table import (
    CLASSES,
    Cell,
    class_tables,
    differences_table,
    further_table,
    run_classes_table,
    seeds_table,
    summary_table,
)

carried = partial(Difference, over="cases and seeds", units=40, seeds=6)
"""A difference from trainings and cases enough for a verdict about the method."""

FOREIGN = r"\b(cases?|scans?|slices?|patients?|voxels?|masks?|organs?|dice|jaccard|hd95|truth|overlap\w*)\b"
"""Words that belong to segmentations."""


def seen(page: str) -> str:
    """What a reader or a screen reader gets of a page: no styles, no tags, no picture data."""
    texts = re.findall(r'(?:alt|aria-label|title)="([^"]*)"', page)
    body = re.sub(r"<style>.*?</style>|<svg.*?</svg>|<[^>]*>", " ", page, flags=re.DOTALL)
    drawn = re.findall(r"<text[^>]*>(.*?)</text>", page, flags=re.DOTALL)
    return html.unescape(" ".join([body, *texts, *drawn]))


def printed(comparison: Comparison) -> str:
    stream = io.StringIO()
    print_comparison(comparison, Console(file=stream, width=200, color_system=None))
    return stream.getvalue()


def single(comparison: Comparison) -> Comparison:
    return replace(comparison, rows=comparison.rows[:1])


def test_no_rendering_speaks_of_masks(classified: Comparison) -> None:
    texts = [comparison_markdown(classified), printed(classified), seen(comparison_report(classified))]
    texts.append(seen(run_report(single(classified))))
    for text in texts:
        assert not re.findall(FOREIGN, text, flags=re.IGNORECASE)
        assert "91.00" in text


def test_features_have_their_own_first_scores(classified: Comparison) -> None:
    rows = [replace(row, scores={"knn_top1": row.scores["top1"]}, differences=None) for row in classified.rows]
    found = replace(classified, kind="self-distillation", rows=tuple(rows), headline="knn_top1", monitor="knn_top1")
    assert summary_table(found).columns[3:] == ("k-NN top-1 (%)",)
    assert not re.findall(FOREIGN, seen(comparison_report(found)), flags=re.IGNORECASE)


def test_a_segmentation_still_speaks_of_cases(comparison: Comparison) -> None:
    text = seen(comparison_report(comparison))
    assert "Best, median and worst cases" in text
    assert "16 train and 4 validation cases" in text
    assert not re.findall(r"\bimages and seeds\b|\bTop-1\b", text)


def test_scores_are_percent_and_differences_points(classified: Comparison) -> None:
    table = summary_table(classified)
    assert table.columns[3:] == (
        "Top-1 (%)",
        "Top-5 (%)",
        "Balanced accuracy (%)",
        "Top-1 (points), difference",
        "Verdict",
    )
    assert table.rows[0][3] == Cell("91.00", "90.50 to 91.50")
    assert table.rows[1][-2:] == (Cell("+0.23", "−0.12 to 0.58"), Cell("non-inferior"))
    further = further_table(classified)
    assert further is not None
    assert further.columns == ("Recipe", "Log loss (nats)")
    assert further.rows[0][1] == Cell("0.250", "0.240 to 0.260")


def test_the_headline_says_points_and_what_was_drawn(classified: Comparison) -> None:
    row = classified.rows[1]
    assert score_text.headline(classified, row) == (
        "Against dense: as many parameters, as many multiply-adds. No difference of Top-1 is shown (+0.23 points, 95 % "
        "interval −0.12 to 0.58: other trainings too, by 6 seeds a side, 40 images), and a loss of 0.5 points or more "
        "is ruled out."
    )
    lower = replace(row, differences={"top1": carried(-0.02, -0.03, -0.01, 0.005)})
    assert "Top-1 is worse by more than the margin of 0.5 points (−2.00 points, 95 % interval −3.00 to −1.00" in (
        score_text.headline(classified, lower)
    )
    assert "Log loss is worse (+0.012 nats" in score_text.headline(replace(classified, headline="nll"), row)


def test_both_intervals_are_shown(classified: Comparison) -> None:
    table = differences_table(classified)
    assert table is not None
    assert table.columns == ("Recipe", "Score", "Difference", "These trainings", "Verdict")
    assert table.rows[0][2:4] == (Cell("+0.23", "−0.12 to 0.58"), Cell("0.04 to 0.41"))
    assert "over images and seeds, and over images for these very trainings" in table.caption
    figure = difference_figure(classified)
    assert figure is not None
    spans = [[round(float(x), 3) for x in line.get_xdata()] for line in figure.axes[0].lines]
    assert [0.04, 0.41] in spans
    assert [-0.12, 0.58] in spans
    assert "0.5 points" in figure.axes[0].get_xlabel()
    alone = {"top1": carried(0.0, -0.01, 0.01, 0.005, over="images")}
    fixed = differences_table(
        replace(classified, rows=(classified.rows[0], replace(classified.rows[1], differences=alone)))
    )
    assert fixed is not None
    assert fixed.columns == ("Recipe", "Score", "Difference", "Verdict")


def test_what_was_drawn_is_told(classified: Comparison) -> None:
    terms = dict(methods(classified))
    assert terms["Images"] == "train 60000, validation 10000"
    assert terms["Intervals"].startswith("95 % bootstrap over images and seeds (2000 resamples): every resample draws")
    assert "the margin (0.5 points for Top-1)" in terms["Verdicts"]
    assert terms["Monitored"] == "Top-1 on the validation images, during training"
    assert "Empty masks" not in terms
    many = replace(classified, classes=tuple(str(number) for number in range(1000)))
    assert dict(methods(many))["Classes"].endswith("28, 29, ... (1000 in all)")
    fixed = replace(classified, rows=classified.rows[:1])
    assert "these very trainings" in dict(methods(fixed))["Intervals"]


def test_seeds_have_their_spread(classified: Comparison) -> None:
    table = seeds_table(classified)
    assert table is not None
    assert table.columns == ("Recipe", "Seed 0", "Seed 1", "Seed 2", "Spread")
    assert table.rows[0][1:] == (Cell("91.00"), Cell("91.10"), Cell("91.20"), Cell("0.10", "91.00 to 91.20"))


def test_curves_are_drawn_by_epoch_and_in_percent(classified: Comparison) -> None:
    figure = curves_figure(classified, "score")
    assert figure is not None
    assert figure.axes[0].get_xlabel() == "epoch"
    assert figure.get_supylabel() == "validation Top-1 (%)"
    mean = figure.axes[0].lines[-1]
    assert mean.get_xdata().tolist() == pytest.approx([1, 2, 3, 4])
    assert mean.get_ydata().tolist() == pytest.approx([60, 70, 80, 90])
    loss = curves_figure(classified, "loss")
    assert loss is not None
    assert loss.axes[0].lines[-1].get_ydata().tolist() == pytest.approx([0.6, 0.7, 0.8, 0.9])


def test_curves_without_epochs_are_drawn_by_step(classified: Comparison) -> None:
    first, second = classified.rows
    curves = (replace(first.curves[0], steps_per_epoch=None), *first.curves[1:])
    figure = curves_figure(replace(classified, rows=(replace(first, curves=curves), second)), "score")
    assert figure is not None
    assert figure.axes[0].get_xlabel() == "step"
    assert max(figure.axes[0].lines[-1].get_xdata()) == 400
    run = run_figure(single(classified))
    assert run is not None
    assert [axes.get_xlabel() for axes in run.axes] == ["epoch", "epoch"]


def test_scores_lie_at_their_percent(classified: Comparison) -> None:
    figure = score_figure(classified)
    assert [axes.get_title("left") for axes in figure.axes] == ["Top-1 (%)", "Top-5 (%)", "Balanced accuracy (%)"]
    dots = [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_marker() not in ("None", "")]
    assert dots == pytest.approx([91.0, 91.2])


def test_the_matrix_shows_shares_of_the_true_class(classified: Comparison) -> None:
    assert confusion_matrix(classified).tolist() == [[90, 9, 1], [5, 95, 0], [0, 0, 100]]
    figure = confusion_figure(classified)
    assert figure is not None
    axes = figure.axes[0]
    cells = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    assert len(cells) == len(classified.rows[0].confusions)
    placed = {text.get_position(): text.get_text() for text in axes.texts}
    assert (placed[1, 0], placed[0, 1], placed[2, 2]) == ("9.0", "5.0", "100")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["shirt", "coat", "bag"]
    assert confusion_figure(replace(classified, classes=tuple(str(n) for n in range(31)))) is None
    bare = replace(classified, rows=(replace(classified.rows[0], confusions=()),))
    assert confusion_figure(bare) is None
    assert confusions_table(bare) is None


def test_the_most_frequent_confusions_come_first(classified: Comparison) -> None:
    table = confusions_table(classified)
    assert table is not None
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["shirt", "coat", "9", "9.0 %"],
        ["coat", "shirt", "5", "5.0 %"],
        ["shirt", "bag", "1", "1.0 %"],
    ]


def test_of_many_classes_the_worst_are_shown(classified: Comparison) -> None:
    scores = {f"recall/{number}": Estimate(number / 1000) for number in range(999, -1, -1)}
    scores["recall/gone"] = Estimate(None)
    row = replace(classified.rows[0], scores={**classified.rows[0].scores, **scores})
    many = replace(classified, rows=(row, classified.rows[1]))
    (table,) = class_tables(many)
    assert table.columns == ("Recipe", *(str(number) for number in range(CLASSES)))
    assert "the 20 of 1004 classes in which dense does worst" in table.caption
    run = run_classes_table(single(many))
    assert run is not None
    assert [cells[0].text for cells in run.rows] == [str(number) for number in range(CLASSES)]


def test_pictures_are_described(classified: Comparison) -> None:
    page = run_report(single(classified))
    assert 'alt="dense, images with their true class and the class predicted with high confidence: The 12' in page
    assert "Surest mistakes" in page
    assert "Mistakes: The 12 surest of 870 mistakes" in page


def test_it_comes_back_from_its_folder(classified: Comparison, tmp_path: Path) -> None:
    written = write_comparison(classified, tmp_path)
    assert read_comparison(written.json) == classified.with_overlay_files()[0]


def test_older_comparisons_still_load() -> None:
    old = read_comparison(Path(__file__).parents[2] / "docs" / "results" / "hippocampus.json")
    assert (old.kind, old.resampled) == ("segmentation", "cases")
    assert comparison_markdown(old).startswith("# ")
