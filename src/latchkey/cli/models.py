"""`latchkey models`: the models by name."""

from __future__ import annotations

from typing import Annotated

import typer


def models(
    pattern: Annotated[str, typer.Argument(help="Names to show, as a shell pattern such as '*small'.")] = "*",
    attention: Annotated[str, typer.Option("--attention", "-a", help="Attention to count the costs with.")] = "softmax",
) -> None:
    """The models by name, with their parameters and multiply-adds at their default size.

    Encoders alone are for `latchkey cost`; the others segment and can be trained.

    Example: latchkey models 'setr_pup_*' --attention kv
    """
    from fnmatch import fnmatchcase

    import torch
    from rich.console import Console
    from rich.table import Table

    from latchkey.attention import parse_variant
    from latchkey.cli.cost import human
    from latchkey.cost.compare import build, default_classes
    from latchkey.cost.ledger import totals
    from latchkey.errors import InputError, nearest
    from latchkey.models import ENCODERS, MODELS, EncoderSpec, ModelSpec

    variant = parse_variant(attention)
    known: dict[str, ModelSpec | EncoderSpec] = {**MODELS, **ENCODERS}
    names = [name for name in known if fnmatchcase(name, pattern)]
    if not names:
        raise InputError(f"no model's name matches {pattern!r}; {nearest(pattern, known)}")
    console = Console()
    table = Table("name", title=f"Models with attention {attention}", title_justify="left")
    for title in ("size", "parameters", "MACs"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("what it is")
    table.columns[0].no_wrap = True
    with console.status("counting"):
        for name in names:
            spec = known[name]
            try:
                with torch.device("meta"):
                    model = build(name, variant, spec.image_size, default_classes(name), 3)
                numbers = [human(value) for value in totals(model, spec.image_size)]
            except InputError:
                numbers = ["not with", attention]
            kind = "encoder: " if name in ENCODERS else ""
            table.add_row(name, f"{spec.image_size[0]}x{spec.image_size[1]}", *numbers, kind + spec.summary)
    console.print(table)
