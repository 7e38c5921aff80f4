"""`latchkey predict`."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from latchkey.cli.evaluate import Weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latchkey.inference import Failure, Written


class Format(StrEnum):
    """How masks are written."""

    nifti = "nifti"
    png = "png"
    csv = "csv"


def predict(
    run: Annotated[Path, typer.Argument(help="Run folder that `latchkey train` made.")],
    inputs: Annotated[
        list[Path], typer.Argument(help="NIfTI volumes, pictures, folders of them, or a tree in the UW-Madison layout.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for masks and overlay pictures.")],
    form: Annotated[
        Format | None,
        typer.Option("--format", help="By default each input's own: NIfTI, PNG, or one CSV (UW-Madison)."),
    ] = None,
    weights: Annotated[
        Weights, typer.Option(help="best: by the monitored score; last: end of training.")
    ] = Weights.best,
    overlap: Annotated[
        float, typer.Option(help="Share that neighbouring windows have in common, from 0 to below 1.")
    ] = 0.25,
    batch_size: Annotated[int, typer.Option(min=1, help="Slices or windows that are segmented at once.")] = 8,
    axis: Annotated[
        int | None, typer.Option(min=0, max=2, help="Axis along which volumes are cut; as in training by default.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    separate: Annotated[bool, typer.Option("--separate", help="Also write one file a class, overlaps kept.")] = False,
    overlays: Annotated[bool, typer.Option("--overlays/--no-overlays", help="Write a picture of every scan.")] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Segment new images with a trained run: masks in the geometry of each input, and overlay pictures.

    Images are normalised as in training; what is larger than the training size is covered window by window. Files that
    cannot be read are named at the end, and the masks of all others are kept.

    Example: `latchkey predict runs/setr_kv_small-seed0 scans/ --out masks`
    """
    from latchkey.inference import Output, PredictionError, Predictor, predict_files
    from latchkey.run import load_run

    loaded = load_run(run, weights.value)
    predictor = Predictor(
        loaded.segmenter, loaded.task, loaded.view, overlap=overlap, batch_size=batch_size, device=device
    )
    output = Output(out, form.value if form else None, separate=separate, overlays=overlays, overwrite=overwrite)
    trained = loaded.experiment.data.source.axis
    cut = axis if axis is not None else 2 if trained is None else trained
    try:
        written = predict_files(predictor, inputs, output, axis=cut, progress=not quiet)
    except PredictionError as error:
        _print(error.written, error.failures, separate=separate, as_json=as_json)
        raise
    _print(written, (), separate=separate, as_json=as_json)


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
