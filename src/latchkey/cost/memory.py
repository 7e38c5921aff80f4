"""How many bytes of activations a model keeps, told from shapes alone on the meta device."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from latchkey.attention import MultiHead


class _Fused(torch.autograd.Function):
    """What PyTorch's fused attention keeps: its inputs, its output and one logarithm of a sum for each row."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, booked: dict[int, str]) -> Tensor:
        out, sums = _output(q, v), q.new_empty(q.shape[:-1], dtype=torch.float32)
        booked[_storage(out)], booked[_storage(sums)] = "values", "scores"
        ctx.save_for_backward(q, k, v, out, sums, mask)
        return out


def _output(q: Tensor, v: Tensor) -> Tensor:
    """`[b h n e]`, laid out as the fused kernels do, so that joining the heads copies nothing."""
    b, h, n, _ = q.shape
    return q.new_empty(b, n, h, v.shape[-1]).transpose(1, 2)


class FusedAttention(TorchFunctionMode):
    """Within it, attention on the meta device has the shapes and the memory of the fused kernel.

    PyTorch has no fused attention for the meta device and would hold the `[b h n m]` scores there. A mask that needs a
    gradient is left to PyTorch, which has no fused kernel for it on other devices either.
    """

    def __init__(self) -> None:
        super().__init__()
        self.booked: dict[int, str] = {}
        """The term of each piece of memory that the attention itself makes."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            mask = kwargs.get("attn_mask")
            if torch.is_grad_enabled() and (mask is None or not mask.requires_grad):
                return _Fused.apply(*args, mask, self.booked)
            if not torch.is_grad_enabled():
                return _output(args[0], args[2])
        return func(*args, **kwargs)


class SavedBytes:
    """Counts, within it, the bytes that autograd keeps for the backward pass, by term.

    Each piece of memory counts once, whole, under the term that keeps it first; memory of the model's weights and of
    `image` does not count. What the attention keeps goes by what it is: heads to "projections", the mixed values to
    "values", its sums to "scores", anything else to "position" where the mixing has weights, to "scores" where not.
    """

    def __init__(self, model: nn.Module, image: Tensor, terms: dict[nn.Module, str]) -> None:
        self.model, self.terms, self.fused = model, terms, FusedAttention()
        self.by_term: Counter[str] = Counter()
        self._known = {_storage(t) for t in (*model.parameters(), *model.buffers(), image)}
        self._alive: list[Tensor] = []
        self._inside: list[nn.Module] = [model]
        self._handles: list[Any] = []
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda kept: kept)

    def __enter__(self) -> SavedBytes:
        for module in self.model.modules():
            self._handles.append(module.register_forward_pre_hook(lambda m, _args: self._inside.append(m)))
            self._handles.append(module.register_forward_hook(lambda *_args: self._leave()))
            if isinstance(module, MultiHead):
                self._handles.append(module.project.register_forward_hook(self._note_heads))
        self._hooks.__enter__()
        self.fused.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.fused.__exit__(*error)
        self._hooks.__exit__(*error)
        for handle in self._handles:
            handle.remove()
        self._alive.clear()

    def _leave(self) -> None:
        self._inside.pop()

    def _note_heads(self, _module: nn.Module, _args: Any, heads: tuple[Tensor, ...]) -> None:
        self._alive.extend(heads)
        self.fused.booked.update((_storage(head), "projections") for head in heads)

    def _pack(self, tensor: Tensor) -> Tensor:
        key = _storage(tensor)
        if key not in self._known:
            self._known.add(key)
            self._alive.append(tensor)
            self.by_term[self._term(tensor)] += tensor.untyped_storage().nbytes()
        return tensor

    def _term(self, tensor: Tensor) -> str:
        layer = self._attention()
        if layer is None:
            return self.terms[self._inside[-1]]
        return self.fused.booked.get(_storage(tensor), "position" if isinstance(layer.core, nn.Module) else "scores")

    def _attention(self) -> MultiHead | None:
        """The attention layer that is mixing heads just now, if one is."""
        *_, outer, inner = None, *self._inside
        if isinstance(inner, MultiHead):
            return inner
        return outer if isinstance(outer, MultiHead) and inner is outer.core else None


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


class LiveBytes(TorchDispatchMode):
    """Counts, within it, how many bytes of tensors made there are alive at once; `peak` is the most there were."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._alive: set[int] = set()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        known = {_storage(t) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and _storage(tensor) not in known | self._alive:
                self._born(tensor.untyped_storage())
        return result

    def _born(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        self._alive.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self._alive.discard(key)
        self.now -= size
