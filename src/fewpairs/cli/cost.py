"""`fewpairs cost`: what a model costs with each attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from fewpairs.models.catalogue import CostTable


def cost(
    model: Annotated[str, typer.Argument(help="A name from `fewpairs models`.")],
    attention: Annotated[
        list[str] | None,
        typer.Option("--attention", "-a", help="Attention to count; repeatable. By default all that fit."),
    ] = None,
    size: Annotated[str | None, typer.Option(help="Height and width in pixels: 256,256.", metavar="H,W")] = None,
    classes: Annotated[int | None, typer.Option(help="Output channels.")] = None,
    channels: Annotated[int, typer.Option(help="Input channels.")] = 3,
    encoder: Annotated[
        str | None,
        typer.Option(help="Encoder of semantic_fpn, upernet or a detector: any with a pyramid, by its name in timm."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Parameters, multiply-adds and activation memory of a model, term by term, for every attention side by side.

    Nothing is computed: the numbers follow from the shapes. Changes are relative to the first attention.

    Example: fewpairs cost setr_pup_vit_b16 --attention softmax --attention kv --size 256,256
    """
    import json

    from rich.text import Text

    from fewpairs.console import Console
    from fewpairs.models.catalogue import compare_attentions
    from fewpairs.terminal import print_table

    costs = compare_attentions(
        model, attention, size=parse_size(size), classes=classes, channels=channels, encoder=encoder
    )
    if as_json:
        typer.echo(json.dumps(costs.as_dict(), indent=2))
        return
    console = Console()
    height, width = costs.size
    outputs = f", {costs.classes} output channels" if costs.classes else ""
    on = f" on {encoder}" if encoder else ""
    what = f"{on} for one image of {height} x {width} pixels, {costs.channels} channels{outputs}"
    console.print(Text.assemble((costs.model, "bold"), what))
    for table in tables(costs, console.width):
        print_table(console, table)
    console.print(
        "Multiply-adds of linear maps, convolutions and attention products. Memory for training: float32 tensors kept "
        "for the backward pass with PyTorch's fused attention; for inference: the most alive at once; both without the "
        "weights.",
        style="dim",
    )
    for name, why in costs.refused.items():
        console.print(f"{name} is left out: {why}", style="yellow")


def parse_size(text: str | None) -> tuple[int, int] | None:
    """(h, w) from `H,W` or from one number for both.

    Raises:
        InputError: the text is anything else.
    """
    from fewpairs.errors import InputError

    if text is None:
        return None
    parts = text.lower().replace("x", ",").split(",")
    if len(parts) > 2 or not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise InputError(f"--size {text!r} must be height and width in pixels, such as 256,256 or 266,360")
    height, width = int(parts[0]), int(parts[-1])
    return height, width


def tables(costs: CostTable, width: int) -> list[Table]:
    """Tables of three quantities, with a row for each term, a column for each attention, and changes in percent.

    Each is one table where `width` characters hold all attentions, else several that all begin with the first one.
    """
    first, *others = costs.breakdowns
    for abreast in range(len(others), 1, -1):
        shares = [others[start : start + abreast] for start in range(0, len(others), abreast)]
        built = [_table(costs, [first, *share], *quantity) for quantity in _QUANTITIES for share in shares]
        if max(map(_natural_width, built)) <= width:
            return built
    shares = [[other] for other in others] or [[]]
    return [_table(costs, [first, *share], *quantity) for quantity in _QUANTITIES for share in shares]


_QUANTITIES = (("Parameters", "parameters"), ("Multiply-adds", "macs"), ("Activation memory", "saved_bytes"))
"""Title of a table, and the field of a term's cost that it shows."""


def _table(costs: CostTable, names: list[str], title: str, field: str) -> Table:
    from fewpairs.cost import TERMS
    from fewpairs.numbers import count, mebibytes

    show = mebibytes if field == "saved_bytes" else count
    breakdowns = [costs.breakdowns[name] for name in names]
    table = _empty(title, names)
    for term in TERMS:
        values = [getattr(cost.terms[term], field) if term in cost.terms else 0 for cost in breakdowns]
        if any(values):
            table.add_row(term, *_cells(values, show))
    total = "training" if field == "saved_bytes" else "total"
    table.add_section()
    table.add_row(total, *_cells([getattr(cost, field) for cost in breakdowns], show), style="bold")
    if field == "saved_bytes":
        table.add_row("inference", *_cells([cost.inference_bytes for cost in breakdowns], show), style="bold")
    return table


def _natural_width(table: Table) -> int:
    """The number of characters that a table needs to show every cell whole."""
    from fewpairs.console import Console

    return Console(width=10_000).measure(table).maximum


def _empty(title: str, names: list[str]) -> Table:
    from rich.table import Table

    table = Table("term", title=title, title_justify="left")
    for index, name in enumerate(names):
        table.add_column(name, justify="right", no_wrap=True)
        if index:
            table.add_column("change", justify="right", no_wrap=True)
    return table


def _cells(values: list[int], show: Callable[[float], str]) -> list[str]:
    first, *others = values
    cells = [show(first)]
    for value in others:
        cells += [show(value), f"{100 * (value / first - 1):+.1f} %" if first else "new" if value else ""]
    return cells
