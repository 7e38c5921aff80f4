"""`fewpairs inspect`: inspects attention on one image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from torch import nn

    from fewpairs.console import Console
    from fewpairs.inspection import Inspection, Subject
    from fewpairs.inspection.image import InputImage
    from fewpairs.kinds.classification.view import LabelledView
    from fewpairs.kinds.detection.view import DetectionView
    from fewpairs.kinds.semantic.view import SemanticView


def inspect(
    model: Annotated[str, typer.Argument(help="A name from `fewpairs models` or from timm, or a run folder.")],
    image: Annotated[Path, typer.Argument(help="A picture: PNG, JPEG, TIFF, ...")],
    attention: Annotated[
        str | None,
        typer.Option(
            "--attention",
            "-a",
            help="knn, knn100 (k = 100), softmax, kv, keyonly, ...; else knn, or a run's or LinGlo's own.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the page, numbers and pictures.")] = Path("inspection"),
    queries: Annotated[
        list[str] | None,
        typer.Option(help="Row and column in pixels of the picture, such as '120,80 30,200'; else three are chosen."),
    ] = None,
    layers: Annotated[
        list[str] | None,
        typer.Option(help="Layers to draw: numbers, negative ones from the end, or patterns: 'blocks.1*'; else all."),
    ] = None,
    size: Annotated[str | None, typer.Option(help="Height and width of the input in pixels.", metavar="H,W")] = None,
    classes: Annotated[
        int | None, typer.Option(min=1, help="Number of outputs of a named model; its own by default.")
    ] = None,
    channels: Annotated[int, typer.Option(min=1, max=3, help="Input channels of a named model: 1 or 3.")] = 3,
    weights: Annotated[
        Path | None, typer.Option(help="Weights for a named model: a file, or the run folder that holds them.")
    ] = None,
    pretrained: Annotated[bool, typer.Option("--pretrained", help="Download timm's weights.")] = False,
    target: Annotated[
        int | None, typer.Option(min=0, help="Class whose logit is differentiated; the predicted one by default.")
    ] = None,
    gradients: Annotated[bool, typer.Option("--gradients/--no-gradients", help="Measure gradient norms.")] = True,
    seed: Annotated[int, typer.Option(min=0, help="Seed of random weights, which are used where none are loaded.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "cpu",
) -> None:
    """Write one page about a model's attention on one picture: kept keys, maps, dropped mass, entropy, gradients.

    k-NN attention is compared with dense attention: within each layer with the same queries and keys, and between the
    model and its dense twin with the same weights. Key-only attention (LinGlo) has no queries: the page shows saliency
    and gate of every position, head by head. The page is self-contained.

    Example: fewpairs inspect deit_tiny_patch16_224 photo.jpg --queries '120,80 30,200' --out study
    """
    import shlex
    import sys
    from dataclasses import replace

    from fewpairs.cli.cost import parse_size
    from fewpairs.console import Console
    from fewpairs.inspection import inspect_attention, write_page
    from fewpairs.train.processes import resolve_device

    console = Console()
    wanted, points = parse_layers(layers), parse_queries(queries)
    with console.status("building the model"):
        spec, pixels = _spec(attention), parse_size(size)
        if Path(model).is_dir():
            opened, subject, seen = _open_run(
                Path(model), image, spec, pixels, other_weights=weights is not None or pretrained
            )
        else:
            named = {"classes": classes, "channels": channels, "pretrained": pretrained, "seed": seed}
            opened, subject, seen = _open_named(model, image, spec, pixels, weights, named)
        opened.to(resolve_device(device))
    with console.status("inspecting every layer"):
        study = inspect_attention(
            opened,
            seen.tensor,
            queries=None if points is None else [seen.point(*point) for point in points],
            layers=wanted,
            target=target,
            gradients=gradients,
            picture=seen.picture,
            subject=replace(subject, command=shlex.join(["fewpairs", *sys.argv[1:]])),
        )
        written = write_page(study, out)
    _print(console, study)
    console.print(f"{written.page}, {written.numbers.name} and {len(written.pictures)} pictures", highlight=False)


def parse_queries(texts: list[str] | None) -> list[tuple[float, float]] | None:
    """Reads rows and columns from `y,x` pairs, which are separated by spaces.

    Raises:
        InputError: a text is anything else.
    """
    from fewpairs.errors import InputError

    if texts is None:
        return None
    points = []
    for pair in " ".join(texts).split():
        try:
            y, x = map(float, pair.split(","))
        except ValueError:
            raise InputError(
                f"--queries {pair!r} must be a row and a column in pixels of the picture, such as 120,80; several "
                "are separated by spaces: '120,80 30,200'"
            ) from None
        points.append((y, x))
    return points


def parse_layers(texts: list[str] | None) -> list[int | str] | None:
    """Reads indices and name patterns, which are separated by commas or spaces."""
    if texts is None:
        return None
    words = " ".join(texts).replace(",", " ").split()
    return [int(word) if word.removeprefix("-").isdecimal() else word for word in words]


def _open_named(
    name: str,
    image: Path,
    attention: Any,
    size: tuple[int, int] | None,
    weights: Path | None,
    options: dict[str, Any],
) -> tuple[nn.Module, Subject, InputImage]:
    """The model, its description for the page, and the picture as its input."""
    from fewpairs.inspection import Subject
    from fewpairs.inspection.image import load_image
    from fewpairs.inspection.open_model import open_model
    from fewpairs.train.run_folder import weights_file

    file = weights_file(weights, "best") if weights is not None and weights.is_dir() else weights
    opened = open_model(name, attention, size=size, weights=file, **options)
    return opened.model, Subject(name, opened.weights, opened.untrained, image.name), load_image(image, opened.view)


def _open_run(
    folder: Path, image: Path, attention: Any, size: tuple[int, int] | None, *, other_weights: bool
) -> tuple[nn.Module, Subject, InputImage]:
    """The model of a run folder with its best weights, and with its own attention and view unless others are given."""
    from dataclasses import replace

    from fewpairs.errors import InputError
    from fewpairs.inspection import Subject
    from fewpairs.inspection.image import load_image, load_slice
    from fewpairs.inspection.open_model import input_channels, replace_attention
    from fewpairs.kinds.segmentation.view import SegmentationView
    from fewpairs.kinds.semantic.view import SemanticView
    from fewpairs.models import Detector
    from fewpairs.models.dino import DinoPair
    from fewpairs.runs.run import load_run

    if other_weights:
        raise InputError(f"{folder} is a run folder and has weights of its own; leave --weights and --pretrained out")
    run = load_run(folder)
    # self-distillation: the part that is used after training
    model = run.model.teacher.encoder if isinstance(run.model, DinoPair) else run.model
    # a detector: the part that has attention
    model = model.encoder if isinstance(model, Detector) else model
    replace_attention(model, attention)
    experiment: Any = run.experiment
    if isinstance(run.model, Detector):
        seen = load_image(image, _detected(experiment.view, image, size))
        return model, Subject(str(folder), "Trained: the best of this run.", False, image.name), seen
    if isinstance(experiment.view, SemanticView):
        seen = load_image(image, _segmented(experiment.view.with_channels(input_channels(model)), image, size))
        return model, Subject(str(folder), "Trained: the best of this run.", False, image.name, run.classes), seen
    view = experiment.view if size is None else replace(experiment.view, size=size)
    scan = isinstance(view, SegmentationView)
    seen = load_slice(image, view) if scan else load_image(image, view.with_channels(input_channels(model)))
    return model, Subject(str(folder), "Trained: the best of this run.", False, image.name, run.classes), seen


def _segmented(view: SemanticView, image: Path, size: tuple[int, int] | None) -> LabelledView:
    """A view of a whole picture for a semantic segmenter, with sides of whole multiples of 32 pixels, 64 at least."""
    from fewpairs.data.pictures import read_image
    from fewpairs.kinds.classification.view import LabelledView

    picture = read_image(image)
    height, width = size or view.resized((picture.height, picture.width))
    whole = (max(64, -(-height // 32) * 32), max(64, -(-width // 32) * 32))
    return LabelledView(
        size=whole, channels=view.channels, mean=view.mean, std=view.std, crop_mode="squash", crop_pct=1.0
    )


def _detected(view: DetectionView, image: Path, size: tuple[int, int] | None) -> LabelledView:
    """A view of a whole picture for a detector, with sides of whole multiples of 32 pixels."""
    from fewpairs.data.pictures import read_image
    from fewpairs.kinds.classification.view import LabelledView

    picture = read_image(image)
    height, width = size or view.scaled((picture.height, picture.width))
    whole = (-(-height // 32) * 32, -(-width // 32) * 32)
    return LabelledView(size=whole, channels=view.channels, crop_mode="squash", crop_pct=1.0)


def _spec(attention: str | None) -> Any:
    from fewpairs.errors import InputError
    from fewpairs.runs.plain_yaml import parse_yaml

    try:
        return None if attention is None else parse_yaml(attention, "--attention")
    except InputError:
        raise InputError(
            f"--attention {attention!r} must be a name, such as knn or knn100, or YAML, such as "
            "'{name: knn, topk: 0.25}' or '[knn100, knn50]' for one per stage"
        ) from None


def _print(console: Console, study: Inspection) -> None:
    from rich.table import Table

    from fewpairs.inspection.tables import short_table
    from fewpairs.terminal import print_table

    content = short_table(study)
    table = Table(title=content.caption, title_justify="left", box=None, pad_edge=False)
    for column in content.columns:
        # long names are folded in a narrow terminal, numbers are not
        name = column == "layer"
        table.add_column(column, justify="left" if name else "right", no_wrap=not name, overflow="fold")
    for row in content.rows:
        table.add_row(*(cell.text for cell in row))
    print_table(console, table)
    if study.subject.untrained:
        console.print("The weights are random: these numbers describe an untrained model.", style="yellow")
    for note in study.notes:
        console.print(note, style="dim")
