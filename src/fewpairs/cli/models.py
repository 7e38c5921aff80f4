"""`fewpairs models`: lists the models by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fewpairs.models.catalogue import AttentionStage, ListedModel

_WIDE = 120
"""Characters of a terminal below which descriptions stand under the names."""


def models(
    pattern: Annotated[str, typer.Argument(help="Names to show, as a shell pattern such as '*small'.")] = "*",
    attention: Annotated[
        str | None, typer.Option("--attention", "-a", help="Attention for the costs; each model's own by default.")
    ] = None,
) -> None:
    """List the models by name, with their parameters, multiply-adds and tokens at their default size.

    Segmenters and classifiers can be trained; encoders serve `fewpairs cost`. Tokens are queries x keys of each
    attention (one number where no pairs are formed), preceded by the number of windows. k is the number of keys that
    each query keeps in k-NN attention: with knn each classifier's own, with knn100 it is 100.

    Example: fewpairs models 'deit*' --attention knn
    """
    from rich.box import HEAVY_HEAD
    from rich.progress import track
    from rich.table import Table
    from rich.text import Text

    from fewpairs.attention import KeyOnly, parse_variant
    from fewpairs.console import Console
    from fewpairs.models.catalogue import find_models, list_costs
    from fewpairs.terminal import print_table

    entries = find_models(pattern)
    console = Console()
    rows = track(
        list_costs(entries, attention),
        description="counting",
        total=len(entries),
        console=Console(stderr=True),
        transient=True,
    )
    found = list(rows)
    sparse = any(stage.topk is not None for row in found for stage in row.stages)
    own = attention is None
    note = ", a reconstruction (docs/linglo.md)" if attention and isinstance(parse_variant(attention), KeyOnly) else ""
    title = f"Models with {'their own attention' if own else f'attention {attention}'}{note}"
    narrow = console.width < _WIDE
    table = Table("name", title=title, title_justify="left", box=None if narrow else HEAVY_HEAD)
    for title in ("size", "parameters", "MACs", "tokens", *(["k"] if sparse else [])):
        table.add_column(title, justify="right")
    if not narrow:
        table.add_column("what it is")
    for row in found:
        name, *cells, summary = _cells(row, attention, sparse=sparse)
        table.add_row(*([Text.assemble(name, "\n", (summary, "dim")), *cells] if narrow else [name, *cells, summary]))
    print_table(console, table)


def _cells(row: ListedModel, attention: str | None, *, sparse: bool) -> list[str]:
    from fewpairs.numbers import count

    entry = row.entry
    if row.refused is None:
        numbers = [count(row.parameters), count(row.macs), "\n".join(map(_tokens, row.stages))]
        kept = ["\n".join(str(stage.keys if stage.topk is None else stage.topk) for stage in row.stages)]
    else:
        numbers, kept = ["not with", str(attention), ""], [""]
    size = f"{entry.image_size[0]}x{entry.image_size[1]}"
    return [entry.name, size, *numbers, *(kept if sparse else []), f"{entry.kind}: {entry.summary}"]


def _tokens(stage: AttentionStage) -> str:
    windows = f"{stage.windows} x " if stage.windows > 1 else ""
    return f"{windows}{stage.queries}" + (f"x{stage.keys}" if stage.pairs else "")
