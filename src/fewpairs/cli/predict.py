"""`fewpairs predict`."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fewpairs.cli.evaluate import Weights
from fewpairs.cli.output import echo
from fewpairs.kinds import prediction_flags

if TYPE_CHECKING:
    from fewpairs.kinds.flags import Flag
    from fewpairs.kinds.predictor import Failure, Prediction


def with_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Replace `**flags` of a command by an option for each flag of the kinds of experiment."""
    signature = inspect.signature(command, eval_str=True)
    own = [item for item in signature.parameters.values() if item.kind is not item.VAR_KEYWORD]
    added = [_option(flag, meant) for flag, meant in prediction_flags().items()]
    command.__signature__ = signature.replace(parameters=[*own, *added])  # type: ignore[attr-defined]
    return command


def _option(flag: Flag, meant: Sequence[str]) -> inspect.Parameter:
    """Return an option; the help lists it in a panel of the predictions that it is for."""
    option = typer.Option(
        flag.name,
        help=flag.help,
        min=flag.least,
        max=flag.most,
        rich_help_panel=f"Options for {' and '.join(meant)}",
    )
    value: Any = StrEnum(flag.key, {choice: choice for choice in flag.choices}) if flag.choices else flag.type
    if flag.repeated:
        value = list[value]
    absent = False if flag.type is bool else None
    annotation = Annotated[value if absent is False else value | None, option]  # type: ignore[valid-type]  # at runtime
    return inspect.Parameter(flag.key, inspect.Parameter.KEYWORD_ONLY, default=absent, annotation=annotation)


@with_flags
def predict(
    run: Annotated[Path, typer.Argument(help="Run folder that `fewpairs train` made.")],
    inputs: Annotated[
        list[Path], typer.Argument(help="NIfTI volumes, pictures, folders of them, or a tree in the UW-Madison layout.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for masks, classes or objects, and pictures of them.")],
    weights: Annotated[
        Weights, typer.Option(help="best: by the monitored score; last: end of training.")
    ] = Weights.best,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    overlays: Annotated[bool, typer.Option("--overlays/--no-overlays", help="Write pictures too.")] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    **flags: Any,
) -> None:
    """Predict new images with a trained run: masks in the geometry of each input, or each picture's classes or objects.

    Images are normalised as in training; scans larger than the training size are covered window by window. Files that
    cannot be read are named at the end, and what was predicted of all others is kept. A classifier writes
    predictions.csv, predictions.json and a sheet of pictures, a detector detections.json (COCO results), pictures with
    boxes and, where it finds masks, label maps. A run of semantic segmentation writes a label map of each picture with
    the palette of its classes, and the picture under it.

    Example: `fewpairs predict runs/setr_kv_small-seed0 scans/ --out masks`
    """
    from fewpairs.kinds.predictor import OutputFolder
    from fewpairs.runs.predict import PredictionError, predict_files
    from fewpairs.runs.run import load_run

    given = {
        name: str(value) if isinstance(value, StrEnum) else value
        for name, value in flags.items()
        if value is not None and value is not False and value != []
    }
    predictor = load_run(run, weights.value).predictor(device=device, **given)
    try:
        written = predict_files(predictor, inputs, OutputFolder(out, overlays, overwrite), progress=not quiet)
    except PredictionError as error:
        _print(error.written, error.failures, as_json=as_json)
        raise
    _print(written, (), as_json=as_json)


def _print(written: Sequence[Prediction], failures: Sequence[Failure], *, as_json: bool) -> None:
    if as_json:
        from fewpairs.kinds.predictor import plain

        content = {"written": [item.to_dict() for item in written], "failed": [item.to_dict() for item in failures]}
        typer.echo(json.dumps(content, indent=2, default=plain))
        return
    for item in written:
        echo(item.summary())
