"""Every model of timm's registry: which kinds of its layers `swap_attention` takes, and why it leaves others alone.

Builds all models without memory (on the meta device), ten minutes, and writes a Markdown table.

    python benchmarks/swap_registry.py --out docs/results/swap-timm.md
"""

from __future__ import annotations

import argparse
import logging
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import timm
import torch
from timm.models import list_models, list_modules

from fewpairs.attention import KV, KeyOnly
from fewpairs.swap.adapter import Adapter, type_name
from fewpairs.swap.layers import find_layers

INTRODUCTION = """# timm's models, module by module

Made by `python benchmarks/swap_registry.py`, which builds every model of timm {timm} ({models:,} of them, none left
out), and looks at every layer with attention in its name. k-NN attention goes into each layer that has a family; *also*
says which of KV (KV+Pos is the same) and key-only attention go into all, some or none of them. Modules of timm without
such a layer are not listed."""

HEAD = ("module", "models", "smallest", "layer", "family", "also", "left alone because")


class Key(NamedTuple):
    """A row of the table: a class of layers in a module of timm."""

    module: str
    layer: str
    family: str
    reason: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/results/swap-timm.md"))
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    models: dict[Key, set[str]] = defaultdict(set)
    takes: dict[Key, dict[str, set[bool]]] = defaultdict(lambda: {"KV": set(), "key-only": set()})
    sizes: dict[str, int] = {}
    for module in list_modules():
        for name in list_models(module=module):
            with torch.device("meta"):
                model = timm.create_model(name)
            sizes[name] = sum(parameter.numel() for parameter in model.parameters())
            for found in find_layers(model):
                layer = found.layer
                key = Key(module, type_name(type(found.module)), layer.family, layer.reason_left_alone or "")
                models[key].add(name)
                if isinstance(found.adapter, Adapter):
                    for word, variant in (("KV", KV()), ("key-only", KeyOnly())):
                        takes[key][word].add(found.adapter.refuse(found.module, variant) is None)
        print(module, flush=True)
    lines = [INTRODUCTION.format(timm=version("timm"), models=len(sizes)), ""]
    lines += [f"| {' | '.join(HEAD)} |", "| --- | --: | --- | --- | --- | --- | --- |"]
    for key in sorted(models):
        names = models[key]
        smallest = min(names, key=lambda name: sizes[name])
        family = "" if key.reason else key.family.removesuffix(" (timm)")
        also = "" if key.reason else ", ".join(amount(word, each) for word, each in takes[key].items())
        layer = key.layer.removeprefix("timm.")
        lines.append(f"| {key.module} | {len(names)} | {smallest} | `{layer}` | {family} | {also} | {key.reason} |")
    options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


def amount(word: str, taken: set[bool]) -> str:
    """`KV`, `KV in some` or `no KV`."""
    return word if taken == {True} else f"no {word}" if taken == {False} else f"{word} in some"


if __name__ == "__main__":
    main()
