"""Replace the attention layers of an existing model."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import nn

from fewpairs.attention import Core, Variant, check_kernel
from fewpairs.cost.tracing import Trace, meta_copy
from fewpairs.errors import InputError
from fewpairs.swap import adapters, model_cost
from fewpairs.swap.adapter import Adapter, Unsupported, type_name
from fewpairs.swap.guard import check_swappable
from fewpairs.swap.interface import register_transformers
from fewpairs.swap.layers import Found, Layer, describe, find_layers
from fewpairs.swap.module import SwappedModule, shared_rows
from fewpairs.swap.receipt import LeftAlone, Receipt, SwappedLayer
from fewpairs.swap.registry import families, register_adapter, unregister_adapter
from fewpairs.swap.saved import Source, fitting_names, load_weights, note_swap, read_plan
from fewpairs.swap.selectors import Variants, Where, assign, select
from fewpairs.swap.undo import Exchanged, Replaced, Undo, kept_bytes, put_in_place


def swap_attention(
    model: nn.Module, variant: Variants, *, where: Where = None, kernel: str | None = None, dry_run: bool = False
) -> Receipt:
    """Replace the attention of `model` in place, and return a receipt of every change.

    Weights that the variant uses stay, under the same names unless they are split; each layer keeps its own scale
    of the logits, whatever `scale_by` says. Create the optimiser, compile and wrap the model after the swap.
    A swapped layer may be swapped again; with the same roles its parameters stay the same objects. `receipt.undo()`
    takes the swap back.

    Args:
        variant: one variant for all layers, or a sequence with one per stage or per layer, counting the selected layers
            that can be swapped. Names are those of `fewpairs.attention.parse_variant`.
        where: the layers to swap (see `describe`): a pattern of module names such as `"blocks.1?.attn"`, an index, a
            sequence of these, or a function of a `Layer`; None selects all.
        kernel: the name of the kernel that computes the swapped layers, such as `"reference"`, which every variant has;
            None chooses by the arguments of each call. `fewpairs.attention.use_kernel` changes it later.
        dry_run: do not change the model; return the receipt of what the swap would do.

    Raises:
        InputError: the model has no layer of a known family, or is compiled or wrapped; `where` selects nothing; a
            selected layer cannot be swapped (if named, or if no other layer can be); a variant has no kernel of that
            name; a weight that would lose rows is tied to another part of the model.
    """
    check_swappable(model)
    found = find_layers(model)
    _check_known(model, found)
    plan = _plan(found, variant, where)
    for _, its in plan.chosen.values():
        check_kernel(its, kernel)
    twin = meta_copy(model)
    size = model_cost.input_size(twin)
    before, run_before, keys_before = model_cost.parameters(twin), model_cost.trace(twin, size), list(twin.state_dict())
    undo_bytes = kept_bytes(_replace_layers(twin, plan.chosen))
    run = None if run_before is None else model_cost.trace(twin, size)
    keys = list(twin.state_dict())
    key_map = _key_map(keys_before, keys, plan)
    receipt = Receipt(
        model=type(model).__name__,
        swapped=tuple(_swapped(one.layer, twin, run) for one in found if one.layer.name in plan.chosen),
        left=plan.left,
        key_map=key_map,
        new_keys=tuple(key for key in keys if key not in keys_before and key not in key_map.values()),
        parameters_before=before,
        parameters_after=model_cost.parameters(twin),
        macs_before=None if run_before is None or run is None else run_before.macs.total(),
        macs_after=None if run is None else run.macs.total(),
        input_size=None if run is None else size,
        kernel=kernel,
        undo_bytes=undo_bytes,
        dry_run=dry_run,
    )
    if dry_run:
        return receipt
    changes = _replace_layers(model, plan.chosen, kernel)
    note_swap(model)
    return replace(receipt, changes=Undo(weakref.ref(model), tuple(changes)))


def load_swapped(model: nn.Module, source: Source) -> Receipt:
    """Swap `model` as a saved one was, and load the weights that were saved with it.

    Args:
        model: the model as it is without the swap, built by its own library; its weights do not matter.
        source: a folder that transformers' `save_pretrained` or timm's `save_for_hf` wrote; a `state_dict`, or a file
            of one that `torch.save` wrote.

    Returns:
        The receipt of the swap.

    Raises:
        InputError: the source cannot be read or says nothing of a swap; the model has no layers of these names, cannot
            be swapped in this way, or the weights do not fit it.
    """
    plan = read_plan(source)

    def swap(its: nn.Module) -> Receipt:
        fitting = fitting_names(its, plan, [layer.name for layer in describe(its)])
        return swap_attention(its, list(fitting.values()), where=list(fitting))

    receipt = swap(model)
    load_weights(model, source, swap)
    return receipt


@dataclass(frozen=True)
class _Plan:
    chosen: dict[str, tuple[Adapter, Variant]]
    """The adapter and the variant of each layer to swap, by the name of the layer."""
    left: tuple[LeftAlone, ...]


def _check_known(model: nn.Module, found: list[Found]) -> None:
    if any(one.layer.name == "" for one in found):
        raise InputError(
            f"{type(model).__name__} is itself an attention layer, and only layers inside a model can be replaced in "
            "place; wrap it in a torch.nn.Sequential first"
        )
    if not any(one.adapter or isinstance(one.module, SwappedModule) for one in found):
        why = _named_reasons([(one, str(one.layer.reason_left_alone)) for one in found])
        known = any(one.layer.family in families() for one in found)
        supported = "" if known else f"; supported families: {', '.join(families())}"
        raise InputError(
            f"{type(model).__name__} has no attention layer that can be swapped{f' ({why})' if why else ''}{supported}"
        )


def _plan(found: list[Found], variant: Variants, where: Where) -> _Plan:
    layers = [one.layer for one in found]
    selection = select(layers, where)
    selected = [one for one in found if one.layer.index in selection.chosen]
    variants = assign(variant, [one.layer for one in selected])
    chosen: dict[str, tuple[Adapter, Variant]] = {}
    left: list[LeftAlone] = []
    for one in found:
        reason = one.layer.reason_left_alone
        if one.layer.index not in selection.chosen:
            has = isinstance(one.module, SwappedModule)
            reason = f"not selected; it has {one.layer.variant}" if has else "not selected"
        elif one.adapter is not None:
            its = variants[one.layer.index]
            reason = one.adapter.refuse(one.module, its)
            if reason is None:
                chosen[one.layer.name] = one.adapter, its
                continue
        if one.layer.index in selection.named:
            raise InputError(f"{one.layer.name} cannot be swapped: {reason} (a {_kind(one)})")
        left.append(LeftAlone(one.layer.name, str(reason)))
    if not chosen:
        reasons = {layer.name: layer.reason for layer in left}
        why = _named_reasons([(one, reasons[one.layer.name]) for one in selected])
        raise InputError(f"none of the {len(selected)} selected layers can be swapped: {why}")
    return _Plan(chosen, tuple(left))


def _kind(one: Found) -> str:
    return type_name(type(one.module))


def _named_reasons(reasons: list[tuple[Found, str]]) -> str:
    """Join the reasons, each once, with the name and class of the first layer that it is about."""
    about: dict[str, list[Found]] = {}
    for one, reason in reasons:
        about.setdefault(reason, []).append(one)
    return "; ".join(
        f"{first.layer.name} ({_kind(first)}{f', and {len(more)} more' if more else ''}): {reason}"
        for reason, (first, *more) in about.items()
    )


def _replace_layers(
    model: nn.Module, chosen: Mapping[str, tuple[Adapter, Variant]], kernel: str | None = None
) -> list[Replaced | Exchanged]:
    """Build all new layers, then replace every reference to the old ones.

    Raises:
        InputError: a weight that loses rows is used outside of the layers too; nothing was changed.
    """
    changes: list[Replaced | Exchanged] = []
    new: dict[nn.Module, nn.Module] = {}
    with shared_rows() as lost:
        for name, (adapter, variant) in chosen.items():
            old = model.get_submodule(name)
            if isinstance(old, SwappedModule) and old.queries == ("q" in variant.roles):
                back = old.exchange(variant, kernel)
                changes.append(Exchanged(name, old, back, old.core.mix))
                continue
            made = adapter.replace(old, variant)
            made.family, made.core.kernel = adapter.family, kernel
            new[old] = made
            changes.append(Replaced(name, old, made))
    put_in_place(model, new)
    tied = [name for name, parameter in model.named_parameters(remove_duplicate=False) if parameter in lost]
    if tied:
        raise InputError(
            f"{tied[0]} shares its weights with a layer that would lose its query rows, and would no longer be tied; "
            "exclude that layer with where=, or untie them first (give one of them a copy)"
        )
    return changes


def _swapped(layer: Layer, twin: nn.Module, run: Trace | None) -> SwappedLayer:
    core: Core = twin.get_submodule(layer.name).core  # type: ignore[assignment]  # it was put there a moment ago
    sites = [] if run is None else [site for site in run.sites if site.name.startswith(f"{layer.name}.")]
    return SwappedLayer(
        layer.name,
        layer.index,
        layer.stage,
        layer.family,
        core.heads,
        core.dim_head,
        core.variant,
        queries=sites[0].n if sites else None,
        keys=sites[0].m if sites else None,
    )


def _key_map(before: list[str], after: list[str], plan: _Plan) -> dict[str, str | None]:
    there = set(after)
    key_map: dict[str, str | None] = {}
    for name, (adapter, _) in plan.chosen.items():
        for key in before:
            if key.startswith(f"{name}."):
                part, dot, rest = key.removeprefix(f"{name}.").partition(".")
                renamed = f"{name}.{adapter.renames.get(part, part)}{dot}{rest}"
                key_map[key] = key if key in there else renamed if renamed in there else None
    return key_map


__all__ = [
    "Adapter",
    "Layer",
    "LeftAlone",
    "Receipt",
    "SwappedLayer",
    "SwappedModule",
    "Unsupported",
    "adapters",
    "describe",
    "load_swapped",
    "register_adapter",
    "register_transformers",
    "swap_attention",
    "unregister_adapter",
]
