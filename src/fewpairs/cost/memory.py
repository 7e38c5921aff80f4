"""Bytes of activations that a model keeps, from shapes on the meta device."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fewpairs.attention import Core
from fewpairs.cost.fused import FusedAttention, storage_id


class SavedBytes:
    """Count the bytes that autograd saves for the backward pass within the block, by term.

    Each storage counts once and completely, under the term that saves it first; the model's weights and `image` do not
    count. Tensors saved by attention are assigned by their role: heads to "projections", the mixed values to "values",
    the log-sum-exp to "scores", all others to "position" if the mixing has weights, otherwise to "scores".
    """

    def __init__(self, model: nn.Module, image: Tensor, terms: dict[nn.Module, str]) -> None:
        self.model, self.terms, self.fused = model, terms, FusedAttention(self._note_heads)
        self.by_term: Counter[str] = Counter()
        self._known = {storage_id(t) for t in (*model.parameters(), *model.buffers(), image)}
        self._alive: list[Tensor] = []
        self._inside: list[nn.Module] = [model]
        self._cores: list[Core] = []
        self._handles: list[Any] = []
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda kept: kept)

    def __enter__(self) -> SavedBytes:
        for module in self.model.modules():
            self._handles.append(module.register_forward_pre_hook(self._enter))
            self._handles.append(module.register_forward_hook(self._leave))
        self._hooks.__enter__()
        self.fused.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.fused.__exit__(*error)
        self._hooks.__exit__(*error)
        for handle in self._handles:
            handle.remove()
        self._alive.clear()

    def _enter(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if isinstance(module, Core):
            self._note_heads(*args)
            self._cores.append(module)
        self._inside.append(module)

    def _leave(self, module: nn.Module, _args: Any, _out: Any) -> None:
        self._inside.pop()
        if isinstance(module, Core):
            self._cores.pop()

    def _note_heads(self, *heads: Tensor) -> None:
        """Note queries, keys and values as the projections give them; those made inside a `Core` are not noted."""
        if not self._cores:
            self._alive.extend(heads)
            self.fused.term_of_storage.update((storage_id(head), "projections") for head in heads)

    def _pack(self, tensor: Tensor) -> Tensor:
        key = storage_id(tensor)
        if key not in self._known:
            self._known.add(key)
            self._alive.append(tensor)
            self.by_term[self._term(tensor)] += tensor.untyped_storage().nbytes()
        return tensor

    def _term(self, tensor: Tensor) -> str:
        term = self.terms[self._inside[-1]]
        if self._cores:
            term = "position" if isinstance(self._cores[-1].mix, nn.Module) else "scores"
        elif term != "scores":
            return term
        return self.fused.term_of_storage.get(storage_id(tensor), term)


class LiveBytes(TorchDispatchMode):
    """Count the bytes of tensors made within the block that are alive at once; `peak` is their maximum."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._alive: set[int] = set()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        known = {storage_id(t) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and storage_id(tensor) not in known | self._alive:
                self._allocated(tensor.untyped_storage())
        return result

    def _allocated(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        self._alive.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._freed, key, size)

    def _freed(self, key: int, size: int) -> None:
        self._alive.discard(key)
        self.now -= size
