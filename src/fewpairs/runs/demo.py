"""The demonstration: three attentions compared on phantom scans."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from fewpairs.attention import KV, KVPos, Softmax, Variant
from fewpairs.kinds.segmentation.phantom.phantom import make_phantom
from fewpairs.recipes.demo import demo
from fewpairs.report import Comparison
from fewpairs.runs.compare import ComparisonPlan, compare

CASES, SEED = 80, 0


def run_demo(
    out: Path, *, steps: int | None = None, progress: bool = True, say: Callable[[str], None] = print
) -> Comparison:
    """Write phantom scans to `out/phantom`, train SETR with QKV, KV and KV+Pos attention and compare them.

    Finished runs are reused.
    """
    phantom = out / "phantom"
    if not (phantom / "train.csv").is_file():
        say(f"making {CASES} phantom cases in {phantom}")
        make_phantom(phantom, cases=CASES, seed=SEED, scale=0.25, days=1, slices=16)
    recipe = demo() if steps is None else demo(steps)
    recipe = replace(recipe, data=replace(recipe.data, root=str(phantom), cache=str(out / "cache")))
    attentions: dict[str, Variant] = {"SETR-QKV": Softmax(), "SETR-KV": KV(), "SETR-KVPos": KVPos()}
    plan = ComparisonPlan(
        experiments={
            label: replace(recipe, name=label, model=replace(recipe.model, attention=attention))
            for label, attention in attentions.items()
        },
        seeds=(0,),
        headline="jaccard",
        margin=0.05,
    )
    return compare(
        plan, out, title="Demonstration on phantom scans", command="fewpairs demo", progress=progress, say=say
    )
