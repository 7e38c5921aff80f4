"""How many bytes of activations a model keeps, told from shapes alone on the meta device."""

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
from fewpairs.cost.fused import FusedAttention, storage


class SavedBytes:
    """Counts, within it, the bytes that autograd keeps for the backward pass, by term.

    Each piece of memory counts once, whole, under the term that keeps it first; memory of the model's weights and of
    `image` does not count. What the attention keeps goes by what it is: heads to "projections", the mixed values to
    "values", its sums to "scores", anything else to "position" where the mixing has weights, to "scores" where not.
    """

    def __init__(self, model: nn.Module, image: Tensor, terms: dict[nn.Module, str]) -> None:
        self.model, self.terms, self.fused = model, terms, FusedAttention(self._note_heads)
        self.by_term: Counter[str] = Counter()
        self._known = {storage(t) for t in (*model.parameters(), *model.buffers(), image)}
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
        """Queries, keys and values, as they come from the projections; inside a `Core` they are its own affair."""
        if not self._cores:
            self._alive.extend(heads)
            self.fused.term_of_storage.update((storage(head), "projections") for head in heads)

    def _pack(self, tensor: Tensor) -> Tensor:
        key = storage(tensor)
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
        return self.fused.term_of_storage.get(storage(tensor), term)


class LiveBytes(TorchDispatchMode):
    """Counts, within it, how many bytes of tensors made there are alive at once; `peak` is the most there were."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._alive: set[int] = set()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        known = {storage(t) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and storage(tensor) not in known | self._alive:
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
