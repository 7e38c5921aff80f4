"""Sentences of the inspection page: facts, definitions and captions."""

from __future__ import annotations

import math

from fewpairs.inspection.result import Inspection, LayerInspection, query_label
from fewpairs.numbers import number

TITLES = {"knn": "k-NN", "kv": "KV", "kvpos": "KV+Pos", "keyonly": "key-only"}
"""The names of variants in a sentence; others keep their own name."""
NEARLY_UNIFORM = 0.98
"""Entropies above this share of ln m are called nearly those of equal weights."""
EQUAL = 0.99999
"""Saliency whose entropy exceeds this share of ln m is called equal, as it is before training."""

DEFINITIONS: tuple[tuple[str, list[str]], ...] = (
    (
        "Dense and k-NN",
        [
            "Within a layer both use the same queries and keys, which the k-NN model computed: softmax over all m "
            "keys, and over the k keys with the largest logits."
        ],
    ),
    (
        "Dense twin",
        ["The same weights and image with no key dropped; compared by similarity, residual branch and gradient."],
    ),
    (
        "Dropped mass τ",
        ["The dense weight of the keys outside the k, for each query; 0 where truncation changes nothing."],
    ),
    (
        "Entropy",
        [
            "Entropy of a query's weights in nats: 0 for one key, ln m for m equal keys, at most ln k once truncated. "
            "For key-only attention it is that of a head's saliency over the positions."
        ],
    ),
    (
        "Saliency, gate",
        [
            "Key-only attention (a reconstruction) has no queries. Saliency: what each position weighs in the value "
            "(R2: the key) that a head pools from the whole image. Gate: how far each position lets the pooled value "
            "(R2: its own) in, from 0 to 1; the mean over the channels where these have gates of their own."
        ],
    ),
    (
        "Distance",
        ["Mean distance between query and key in widths of a query's patch; tokens without a position are left out."],
    ),
    (
        "Similarity",
        ["The mean cosine of all pairs of tokens with a position after a block; 1 where all are alike."],
    ),
    (
        "Residual / skip",
        ["The norm of a block's change to a token over the norm of the token before it, as the mean over the tokens."],
    ),
    (
        "Gradient",
        ["The Euclidean norm of the target logit's gradient with respect to all weights of the attention module."],
    ),
)


def facts(inspection: Inspection) -> list[tuple[str, str]]:
    """What was inspected, as pairs of a term and a text."""
    subject, (height, width, _) = inspection.subject, inspection.picture.shape
    found = [("Model", subject.model), ("Weights", subject.weights)]
    found.append(("Image", f"{subject.image}, " * bool(subject.image) + f"seen at {height} x {width} pixels"))
    labels = "; ".join(query_label(i, point) for i, point in enumerate(inspection.queries))
    if inspection.uses_queries:
        found.append(("Queries", f"{labels} (row, column of the input)"))
    target = inspection.target
    if target is not None:
        how = "as asked" if target.chosen else "the one predicted"
        other = "" if target.logit_dense is None else f"; {number(target.logit_dense)} in the dense twin"
        found.append(("Target", f"class {target.name}, {how}, logit {number(target.logit)}{other}"))
    return found


def stage_of(layer: LayerInspection) -> str:
    """Size and k of a layer; layers with the same text make up a stage."""
    tokens = _tokens(layer)
    kept = "" if layer.kept is None else f", k = {layer.kept} ({100 * layer.kept / layer.keys:.0f} % of the keys)"
    return f"{count(layer.heads, 'head')}, {tokens}{kept}"


def _tokens(layer: LayerInspection) -> str:
    where = "" if layer.grid is None else f" on a grid of {layer.grid[0]} x {layer.grid[1]}"
    if layer.windowed:
        return f"{layer.attentions} windows of {layer.queries} tokens{where}"
    if layer.queries == layer.keys:
        return f"{count(layer.queries, 'token')}{where}"
    return f"{layer.queries} {'queries' if layer.queries != 1 else 'query'}{where}, {count(layer.keys, 'key')}"


def layer_facts(layer: LayerInspection) -> str:
    """The line below the heading of a layer."""
    return f"{TITLES.get(layer.attention, layer.attention)} attention: {stage_of(layer)}"


def what_to_see(layer: LayerInspection) -> str:
    """The caption of a layer's maps: how its heads differ, and what the numbers mean."""
    full = math.log(layer.keys)
    if layer.dropped is None or layer.entropy_kept is None or layer.kept is None:
        means = [head.mean for head in layer.entropy.heads]
        low, high = means.index(min(means)), means.index(max(means))
        if not layer.pairs and full > 0 and min(means) > EQUAL * full:
            return f"All positions weigh alike (entropy ln m = {number(full, 2)}), as they do before training."
        if not layer.pairs and layer.heads == 1:
            return f"Entropy {number(means[0], 2)} nats; equal weights would give ln m = {number(full, 2)}."
        return (
            f"Head {low} is the sharpest (entropy {number(means[low], 2)} nats) and head {high} the broadest "
            f"({number(means[high], 2)}; equal weights would give ln m = {number(full, 2)})."
        )
    drops = [head.mean for head in layer.dropped.heads]
    if not all(map(math.isfinite, drops)):
        return "Some weights are not finite, so the heads cannot be compared."
    if layer.kept == layer.keys:
        return "Every key is kept, so both maps are the same."
    least, most = drops.index(min(drops)), drops.index(max(drops))
    sentences = [
        f"Head {most} drops the most (τ {number(drops[most], 2)} in the mean) and head {least} the least "
        f"({number(drops[least], 2)}): the larger τ, the further the k-NN map is from the dense one."
    ]
    before, after = layer.entropy.all.mean, layer.entropy_kept.all.mean
    if full > 0 and before > NEARLY_UNIFORM * full:
        sentences.append(
            f"The dense weights are nearly equal (entropy {number(before, 2)} of at most {number(full, 2)}), so what "
            f"is dropped comes near the share of the keys left out, {number(1 - layer.kept / layer.keys, 2)}."
        )
    else:
        sentences.append(
            f"Truncation takes the entropy from {number(before, 2)} to {number(after, 2)} nats "
            f"(at most ln k = {number(math.log(layer.kept), 2)})."
        )
    return " ".join(sentences)


def count(number_of: int, what: str) -> str:
    """`1 head`, `6 heads`."""
    return f"{number_of} {what}{'s' if number_of != 1 else ''}"
