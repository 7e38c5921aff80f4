"""`fewpairs predict`."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from fewpairs.cli.evaluate import Weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fewpairs.kinds.classification.predict import Classified, Classifier, ClassOutput, UnreadPicture
    from fewpairs.kinds.detection.predict import Finder, FoundOutput, Searched, Unsearched
    from fewpairs.kinds.segmentation.predict import Failure, Written
    from fewpairs.kinds.semantic.predict import Labeller, LabelOutput, Mapped, Unmapped


class Format(StrEnum):
    """How masks are written."""

    nifti = "nifti"
    png = "png"
    csv = "csv"


def predict(
    run: Annotated[Path, typer.Argument(help="Run folder that `fewpairs train` made.")],
    inputs: Annotated[
        list[Path], typer.Argument(help="NIfTI volumes, pictures, folders of them, or a tree in the UW-Madison layout.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for masks, classes or objects, and pictures of them.")],
    form: Annotated[
        Format | None,
        typer.Option("--format", help="Of masks; by default each input's own: NIfTI, PNG, or one CSV (UW-Madison)."),
    ] = None,
    weights: Annotated[
        Weights, typer.Option(help="best: by the monitored score; last: end of training.")
    ] = Weights.best,
    overlap: Annotated[
        float | None, typer.Option(help="Of masks: share that neighbouring windows have in common; 0.25 by default.")
    ] = None,
    top: Annotated[int | None, typer.Option(min=1, help="Of classes: how many of each picture; 5 by default.")] = None,
    threshold: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Of objects: least score of those that are counted and drawn; 0.5 by default."),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Of masks and classes: slices, windows or pictures at once; 8 by default."),
    ] = None,
    axis: Annotated[
        int | None, typer.Option(min=0, max=2, help="Axis along which volumes are cut; as in training by default.")
    ] = None,
    inference: Annotated[
        list[str] | None,
        typer.Option(help="Of label maps: a setting of the run's inference to change, as flip=true; repeat for more."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    separate: Annotated[bool, typer.Option("--separate", help="Also write one file a class, overlaps kept.")] = False,
    overlays: Annotated[bool, typer.Option("--overlays/--no-overlays", help="Write pictures too.")] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Predict new images with a trained run: masks in the geometry of each input, or each picture's classes or objects.

    Images are normalised as in training; scans larger than the training size are covered window by window. Files that
    cannot be read are named at the end, and what was predicted of all others is kept. A classifier writes
    predictions.csv, predictions.json and a sheet of pictures, a detector detections.json (COCO results), pictures with
    boxes and, where it finds masks, label maps. A run of semantic segmentation writes a label map of each picture with
    the palette of its classes, and the picture under it.

    Example: `fewpairs predict runs/setr_kv_small-seed0 scans/ --out masks`
    """
    from fewpairs.errors import InputError
    from fewpairs.kinds.classification.experiment import ClassificationExperiment
    from fewpairs.kinds.detection.experiment import DetectionExperiment
    from fewpairs.kinds.segmentation.experiment import SegmentationExperiment
    from fewpairs.kinds.semantic.experiment import SemanticExperiment
    from fewpairs.runs.run import load_run

    loaded = load_run(run, weights.value)
    of_kind = {
        SegmentationExperiment: "masks",
        ClassificationExperiment: "classes",
        DetectionExperiment: "objects",
        SemanticExperiment: "label maps",
    }
    what = of_kind.get(type(loaded.experiment))
    if what is None:
        raise InputError(
            f"{run} is a run of the kind {loaded.experiment.kind}, which predicts no masks, classes or objects"
        )
    given: dict[str, tuple[object, tuple[str, ...]]] = {
        "--format": (form, ("masks",)),
        "--overlap": (overlap, ("masks",)),
        "--axis": (axis, ("masks",)),
        "--separate": (separate or None, ("masks",)),
        "--top": (top, ("classes",)),
        "--threshold": (threshold, ("objects",)),
        "--batch-size": (batch_size, ("masks", "classes")),
        "--inference": (inference, ("label maps",)),
    }
    stray = [name for name, (value, meant) in given.items() if value is not None and what not in meant]
    if stray:
        raise InputError(f"{', '.join(stray)}: no option for {run}, which predicts {what}; leave it out")
    if what == "classes":
        from fewpairs.kinds.classification.predict import Classifier, ClassOutput

        seen = cast(ClassificationExperiment, loaded.experiment).view.with_channels(int(loaded.note["channels"]))
        classifier = Classifier(
            loaded.model, loaded.task, seen, top=top or 5, batch_size=batch_size or 8, device=device
        )
        _classify(classifier, inputs, ClassOutput(out, overlays, overwrite), as_json=as_json, quiet=quiet)
        return
    if what == "objects":
        from fewpairs.kinds.detection.predict import Finder, FoundOutput
        from fewpairs.models import Detector

        finder = Finder(
            cast(Detector, loaded.model),
            loaded.task,
            cast(DetectionExperiment, loaded.experiment).view,
            dict(zip(loaded.classes, loaded.note["category_ids"], strict=True)),
            threshold=0.5 if threshold is None else threshold,
            device=device,
        )
        _detect(finder, inputs, FoundOutput(out, overlays, overwrite), as_json=as_json, quiet=quiet)
        return
    if what == "label maps":
        from fewpairs.kinds.semantic.predict import Labeller, LabelOutput
        from fewpairs.runs.run import with_inference

        swept = with_inference(loaded.experiment, inference or [])
        labeller = Labeller(
            swept.judged(loaded.model),
            loaded.task,
            swept.view.with_channels(int(loaded.note["channels"])),
            tuple((red, green, blue) for red, green, blue in loaded.note["colours"]),
            device=device,
        )
        _label(labeller, inputs, LabelOutput(out, overlays, overwrite), as_json=as_json, quiet=quiet)
        return
    from fewpairs.kinds.segmentation.predict import Output, PredictionError, Predictor, predict_files
    from fewpairs.models import Segmenter

    settings = cast(SegmentationExperiment, loaded.experiment)
    predictor = Predictor(
        cast(Segmenter, loaded.model),
        loaded.task,
        settings.view,
        overlap=0.25 if overlap is None else overlap,
        batch_size=batch_size or 8,
        device=device,
    )
    output = Output(out, form.value if form else None, separate=separate, overlays=overlays, overwrite=overwrite)
    trained = settings.data.source.axis
    cut = axis if axis is not None else 2 if trained is None else trained
    try:
        written = predict_files(predictor, inputs, output, axis=cut, progress=not quiet)
    except PredictionError as error:
        _print(error.written, error.failures, separate=separate, as_json=as_json)
        raise
    _print(written, (), separate=separate, as_json=as_json)


def _classify(classifier: Classifier, inputs: list[Path], output: ClassOutput, *, as_json: bool, quiet: bool) -> None:
    from fewpairs.kinds.classification.predict import ClassificationError, classify_files

    try:
        written = classify_files(classifier, inputs, output, progress=not quiet)
    except ClassificationError as error:
        _print_classes(error.written, error.failures, as_json=as_json)
        raise
    _print_classes(written, (), as_json=as_json)


def _print_classes(written: Sequence[Classified], failures: Sequence[UnreadPicture], *, as_json: bool) -> None:
    if as_json:
        from dataclasses import asdict

        content = {"written": [asdict(item) for item in written], "failed": [asdict(item) for item in failures]}
        typer.echo(json.dumps(content, indent=2, default=str))
        return
    for item in written:
        guesses = ", ".join(f"{guess.title} {100 * guess.probability:.1f} %" for guess in item.guesses[:3])
        typer.echo(f"{item.path}  {guesses}")


def _detect(finder: Finder, inputs: list[Path], output: FoundOutput, *, as_json: bool, quiet: bool) -> None:
    from fewpairs.kinds.detection.predict import DetectionError, detect_files

    try:
        written = detect_files(finder, inputs, output, progress=not quiet)
    except DetectionError as error:
        _print_objects(error.written, error.failures, as_json=as_json)
        raise
    _print_objects(written, (), as_json=as_json)


def _print_objects(written: Sequence[Searched], failures: Sequence[Unsearched], *, as_json: bool) -> None:
    if as_json:
        from dataclasses import asdict

        content = {"written": [asdict(item) for item in written], "failed": [asdict(item) for item in failures]}
        typer.echo(json.dumps(content, indent=2, default=str))
        return
    for item in written:
        found = ", ".join(f"{count} {name}" for name, count in item.objects.items() if count)
        typer.echo(f"{item.path}  {found or 'nothing'}")


def _label(labeller: Labeller, inputs: list[Path], output: LabelOutput, *, as_json: bool, quiet: bool) -> None:
    from fewpairs.kinds.semantic.predict import LabellingError, label_files

    try:
        written = label_files(labeller, inputs, output, progress=not quiet)
    except LabellingError as error:
        _print_labels(error.written, error.failures, as_json=as_json)
        raise
    _print_labels(written, (), as_json=as_json)


def _print_labels(written: Sequence[Mapped], failures: Sequence[Unmapped], *, as_json: bool) -> None:
    if as_json:
        from dataclasses import asdict

        content = {"written": [asdict(item) for item in written], "failed": [asdict(item) for item in failures]}
        typer.echo(json.dumps(content, indent=2, default=str))
        return
    for item in written:
        total = max(1, sum(item.pixels.values()))
        shares = ", ".join(f"{name} {100 * count / total:.1f} %" for name, count in list(item.pixels.items())[:5])
        typer.echo(f"{item.output}  {item.path.name}: {shares or 'no class'}")


def _print(written: Sequence[Written], failures: Sequence[Failure], *, separate: bool, as_json: bool) -> None:
    if as_json:
        from dataclasses import asdict

        content = {"written": [asdict(item) for item in written], "failed": [asdict(item) for item in failures]}
        typer.echo(json.dumps(content, indent=2, default=str))
        return
    for item in written:
        sizes = item.millilitres or {name: float(count) for name, count in item.voxels.items()}
        unit, digits = ("ml", 1) if item.millilitres is not None else ("pixels", 0)
        found = ", ".join(f"{name} {size:.{digits}f} {unit}" for name, size in sizes.items())
        more = f" and {len(item.outputs) - 1} more" if len(item.outputs) > 1 else ""
        typer.echo(f"{item.outputs[0]}{more}  {item.id}: {found}")
        if item.overlapping and not separate and item.outputs[0].suffix != ".csv":
            typer.echo(
                f"  {item.overlapping} voxels are of several classes and were given to the last; --separate keeps all"
            )
