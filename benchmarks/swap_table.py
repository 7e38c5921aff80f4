"""The swap table: each family of models, swapped to k-NN, KV, KV+Pos and key-only attention, and what holds afterwards.

Runs the tiny models of the tests (random weights, two image sizes each) and writes Markdown tables and JSON. Exit
status 1 if anything that the documentation promises does not hold. A quarter of an hour.

    python benchmarks/swap_table.py --out docs/results/swap-table
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import sys
import warnings
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from swap_families import Model, are_rows_of, families, tie
from torch import nn

from fewpairs import KNN, KV, KeyOnly, KVPos, swap_attention
from fewpairs.attention import Variant, has_pairs
from fewpairs.errors import InputError
from fewpairs.swap import Layer, Receipt
from fewpairs.swap.adapter import Unsupported
from fewpairs.swap.registry import adapters

TOLERANCE = 1e-5
"""Of a logit, absolute and relative, as in the tests."""

VARIANTS: dict[str, tuple[Variant, Variant]] = {
    "k-NN": (KNN(topk=10_000), KNN(topk=3)),
    "KV": (KV(), KV()),
    "KV+Pos": (KVPos(), KVPos()),
    "key-only": (KeyOnly(), KeyOnly()),
}
"""Name -> the variant that must equal the original, and the one that is compiled."""


PACKAGES = ("torch", "timm", "transformers", "torchvision", "monai", "segmentation_models_pytorch", "open_clip_torch")

INTRODUCTION = """# Which models can be swapped, and what holds afterwards

Made by `python benchmarks/swap_table.py`, which runs every row: tiny models with random weights, two sizes each, on one
thread of a CPU. {versions}. The tests hold the same. Every model of timm's registry, without running it:
[swap-timm.md](swap-timm.md).

- *equal*: the largest difference of a logit to the original's, over both sizes; within 1e-5, absolute or relative, it
  is a yes. For k-NN attention with all keys kept; for KV and KV+Pos in a model whose query projections were given the
  weights of its key projections. Key-only attention equals no other: its answer is finite, and another.
- *weights kept*: share of the swapped layers' weights that are there, unchanged, after the swap.
- *keys*: what became of the swapped layers' entries in the `state_dict`.
- *graph*: whether `torch.compile(fullgraph=True)` takes the swapped model as one graph and gives the same answer; k-NN
  attention with 3 keys kept. Where it does not, whether it takes the original; "not tried" in rows made with
  `--no-graph`. Rows may have been made at different times (`--keep`)."""


@dataclass(frozen=True)
class Row:
    """What was found for one family and one variant."""

    library: str
    family: str
    attention: str
    layers: int
    swapped: int
    reason: str
    """Why layers were left alone, where some were."""
    weights_kept: float
    """Share of the numbers in the swapped layers' parameters that the new layers have too, unchanged."""
    keys: str
    """What became of the swapped layers' keys in the `state_dict`."""
    sizes: tuple[tuple[int, int], ...]
    difference: float
    """Largest difference of a logit to the original's, over both sizes."""
    equal: bool
    compiled: bool | str | None
    """Whether the swapped model is one graph; "original" if the original is not one either, None if nobody looked."""

    @property
    def good(self) -> bool:
        """Whether all holds that the documentation promises."""
        identical = self.attention != "k-NN" or (self.weights_kept == 1 and self.keys == "identical")
        # A mask that a graph is told row by row may differ from row to row, which key-only attention must refuse.
        graph = self.compiled is not False or (self.attention, self.family) == ("key-only", "siglip2")
        return self.equal and graph and identical


@torch.no_grad()
def examine(library: str, family: str, model: Model, attention: str, graph: bool) -> Row | str:
    """What holds after the swap; or why no layer of the family can be swapped."""
    same, compiled = VARIANTS[attention]
    where = None if "q" in same.roles else not_pooling
    try:
        receipt = swap_attention(model(0)[0], same, where=where, dry_run=True)
    except InputError as error:
        return short(str(error))
    swapped = [layer.name for layer in receipt.swapped]
    reasons = dict.fromkeys(short(left.reason) for left in receipt.left)
    differences, equal, sizes = [], True, []
    for which in (0, 1):
        original, image = model(which)
        if "q" not in same.roles:
            tie(original, swapped)
        wanted, new = original(image), copy.deepcopy(original)
        swap_attention(new, same, where=where)
        try:
            got = new(image)
        except InputError as error:
            return f"it can be swapped, and not be called: {error}"
        differences.append(float((got - wanted).abs().max()))
        comparable = has_pairs(same)
        equal = equal and (torch.allclose(got, wanted, atol=TOLERANCE, rtol=TOLERANCE) if comparable else finite(got))
        sizes.append(tuple(image.shape[2:] if image.ndim > 3 else image.shape[1:2]))
    return Row(
        library=library,
        family=family,
        attention=attention,
        layers=len(receipt.swapped) + len(receipt.left),
        swapped=len(swapped),
        reason="; ".join(reasons),
        weights_kept=kept(model(0)[0], same, where),
        keys=keys(receipt),
        sizes=tuple(sizes),
        difference=max(differences),
        equal=equal,
        compiled=compiles(model, compiled, where) if graph else None,
    )


def finite(attend: torch.Tensor) -> bool:
    return bool(attend.isfinite().all())


def short(reason: str) -> str:
    """A reason without what it has in common with others: "KV(...) attends from keys to keys, and here"."""
    return reason.rsplit(", and here ", 1)[-1].replace("not selected", "cross-attention")


def not_pooling(layer: Layer) -> bool:
    """All layers but those by which SigLIP pools its tokens, which is cross-attention."""
    return not layer.name.endswith("head.attention")


def kept(model: nn.Module, variant: Variant, where: Any) -> float:
    """Share of the swapped layers' weights that is there, unchanged, after the swap."""
    before = {name: value.clone() for name, value in model.named_parameters()}
    receipt = swap_attention(model, variant, where=where)
    after = dict(model.named_parameters())
    there = total = 0
    for old, new in receipt.key_map.items():
        if old in before:
            total += before[old].numel()
            if new is not None and are_rows_of(after[new], before[old]):
                there += after[new].numel()
    return there / total


def keys(receipt: Receipt) -> str:
    """What became of the swapped layers' keys."""
    gone = sum(new is None for new in receipt.key_map.values())
    renamed = sum(new not in (None, old) for old, new in receipt.key_map.items())
    options = [
        f"{count} {what}"
        for count, what in ((renamed, "renamed"), (gone, "gone"), (len(receipt.new_keys), "new"))
        if count
    ]
    return ", ".join(options) or "identical"


def compiles(model: Model, variant: Variant, where: Any) -> bool | str:
    """Whether the swapped model is one graph for `torch.compile`, and answers as it does without.

    It is "original" if it is not, and the original is not either.
    """
    new, image = model(0)
    swap_attention(new, variant, where=where)
    return is_one_graph(new, image) or (False if is_one_graph(*model(0)) else "original")


def is_one_graph(new: nn.Module, image: torch.Tensor) -> bool:
    torch.compiler.reset()
    wanted = new(image)
    try:
        got = torch.compile(new, backend="eager", fullgraph=True)(image)
    except Exception as error:  # whatever a model of somebody else's raises in a graph
        print(error, file=sys.stderr)
        return False
    return torch.allclose(got, wanted, atol=TOLERANCE, rtol=TOLERANCE)


def report(rows: list[Row], refused: dict[tuple[str, str, str], str]) -> str:
    """The tables in Markdown."""
    made = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    lines = [INTRODUCTION.format(versions=f"Python {platform.python_version()}, {made}")]
    for attention in VARIANTS:
        lines += [
            "",
            f"## {attention}",
            "",
            "| library | model | layers swapped | equal | weights kept | keys | graph | sizes |",
        ]
        lines += ["| --- | --- | --: | --: | --: | --- | --- | --- |"]
        lines += [_line(row) for row in rows if row.attention == attention]
        left = [(row.library, row.family, row.reason) for row in rows if row.attention == attention and row.reason]
        left += [(*key[:2], why) for key, why in refused.items() if key[2] == attention]
        if left:
            lines += [
                "",
                f"Layers left alone with {attention}:",
                "",
                "| library | model | because |",
                "| --- | --- | --- |",
            ]
            lines += [f"| {library} | {family} | {reason} |" for library, family, reason in left]
    lines += ["", "## Never swapped", "", "| layers | because |", "| --- | --- |"]
    lines += [f"| {each.family} | {each.reason} |" for each in adapters() if isinstance(each, Unsupported)]
    return "\n".join(lines) + "\n"


GRAPHS = {True: "one", False: "**breaks**", "original": "breaks, as the original", None: "not tried"}


def _line(row: Row) -> str:
    sizes = ", ".join("x".join(map(str, size)) if len(size) > 1 else f"{size[0]} tokens" for size in row.sizes)
    cells = (
        row.library,
        row.family,
        f"{row.swapped} of {row.layers}",
        agreement(row),
        f"{row.weights_kept:.0%}",
        row.keys,
        GRAPHS[row.compiled],
        sizes,
    )
    return f"| {' | '.join(cells)} |"


def agreement(row: Row) -> str:
    if row.attention == "key-only":
        return "another answer" if row.equal else "**not finite**"
    return f"{'yes' if row.equal else '**no**'}, {f'{row.difference:.0e}' if row.difference else 0}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/results/swap-table"), help="without .md and .json")
    parser.add_argument("--only", default="", help="families with one of these words, joined by commas, in their name")
    parser.add_argument("--no-graph", action="store_true", help="do not compile, which takes most of the time")
    parser.add_argument("--keep", action="store_true", help="keep the rows of other families from the table at --out")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="enable_nested_tensor")
    rows: list[Row] = []
    refused: dict[tuple[str, str, str], str] = {}
    for library, family, model in families():
        for attention in VARIANTS:
            if not any(word in family for word in options.only.split(",")):
                continue
            row = examine(library, family, model, attention, not options.no_graph)
            if isinstance(row, Row):
                rows.append(row)
                print(_line(row), "" if row.good else "FAILED", flush=True)
            else:
                refused[library, family, attention] = row
    if options.keep:
        there = json.loads(options.out.with_suffix(".json").read_text(encoding="utf-8"))
        made = {(row.library, row.family) for row in rows} | {key[:2] for key in refused}
        kept_rows = [Row(**row) for row in there["rows"] if (row["library"], row["family"]) not in made]
        rows = kept_rows + rows
        refused = {tuple(key): why for *key, why in there["refused"] if tuple(key[:2]) not in made} | refused
    options.out.with_suffix(".md").write_text(report(rows, refused), encoding="utf-8")
    content = {"rows": [asdict(row) for row in rows], "refused": [[*key, why] for key, why in refused.items()]}
    options.out.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    bad = [f"{row.library} {row.family} {row.attention}" for row in rows if not row.good]
    print(f"{len(rows)} rows, {len(bad)} with a promise that does not hold: {', '.join(bad) or 'none'}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
