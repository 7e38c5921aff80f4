"""Each operator, and a model with each attention, as functions of one tensor beside the same in plain PyTorch."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import Tensor, nn

from fewpairs import KNN, KV, KeyOnly, KVPos, Softmax, swap_attention
from fewpairs.attention import use_kernel
from fewpairs.ops import global_key_attention, key_only_attention, knn_attention, kv_attention, softmax_attention


@dataclass(frozen=True)
class Subject:
    """A function of one tensor, and the same by plain PyTorch in the dtype of its argument."""

    name: str
    module: nn.Module
    plain: nn.Module
    """The same with kernel="reference" in float64."""
    sample: Callable[[int, int], Tensor]
    """An argument of a batch and a size, such as `[b h n d]` of keys or an image."""
    sizes: tuple[int, int, int]
    """The size that is traced, and two others."""
    dynamic: dict[int, str]
    """The dimensions that the size changes, beside the batch in dimension 0."""

    def truth(self, x: Tensor) -> Tensor:
        return self.plain(plain_tensor(x).double())


class Operator(nn.Module):
    """Attention of one argument with fixed others, or with others computed from the argument."""

    def __init__(self, mix: Callable[..., Tensor], kernel: str | None = None) -> None:
        super().__init__()
        self.mix, self.kernel = mix, kernel
        generator = torch.Generator().manual_seed(5)
        self.register_buffer("weight", torch.randn(2, 8, generator=generator))
        self.register_buffer("gain", torch.tensor([0.7, 1.3]))

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(x, self.weight, self.gain, self.kernel)


def turned(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.flip(-1) * 1.5, x.roll(1, -1)


def softmax(x: Tensor, weight: Tensor, gain: Tensor, kernel: str | None) -> Tensor:
    return softmax_attention(x, *turned(x), kernel=kernel)


def knn(x: Tensor, weight: Tensor, gain: Tensor, kernel: str | None) -> Tensor:
    return knn_attention(x, *turned(x), topk=0.5, kernel=kernel)


def kv(x: Tensor, weight: Tensor, gain: Tensor, kernel: str | None) -> Tensor:
    return kv_attention(x, turned(x)[1], gain=gain, key_bias=(x * weight[:, None]).sum((0, 1, 3)), kernel=kernel)


def key_only(x: Tensor, weight: Tensor, gain: Tensor, kernel: str | None) -> Tensor:
    return key_only_attention(x, turned(x)[1], weight * gain[:, None], kernel=kernel)


def global_key(x: Tensor, weight: Tensor, gain: Tensor, kernel: str | None) -> Tensor:
    return global_key_attention(x, turned(x)[1], weight, kernel=kernel)


OPERATORS = {"softmax": softmax, "kv": kv, "knn": knn, "key_only": key_only, "global_key": global_key}
SWAPS = {"softmax": Softmax(), "kv": KV(), "kvpos": KVPos(), "knn": KNN(0.5), "key_only": KeyOnly()}


def operator(name: str) -> Subject:
    module, exact = Operator(OPERATORS[name]), Operator(OPERATORS[name], "reference").double()

    def sample(b: int, n: int) -> Tensor:
        return torch.randn(b, 2, n, 8, generator=torch.Generator().manual_seed(100 * b + n))

    return Subject(f"ops.{name}", module, exact, sample, (9, 14, 5), {2: "tokens"})


def swapped(name: str) -> Subject:
    torch.manual_seed(3)
    options = {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, "num_classes": 5, "dynamic_img_size": True}
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, **options).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    swap_attention(model, SWAPS[name])
    exact = copy.deepcopy(model).double()
    use_kernel(exact, "reference")

    def sample(b: int, n: int) -> Tensor:
        return torch.randn(b, 3, n, n, generator=torch.Generator().manual_seed(100 * b + n))

    return Subject(f"swap.{name}", model, exact, sample, (32, 48, 24), {2: "height", 3: "width"})


def plain_tensor(x: Tensor) -> Tensor:
    return x.held if isinstance(x, Wrapper) else x.detach().as_subclass(Tensor)


# Subclasses of tensors


class Named(Tensor):
    """A subclass with the default `__torch_function__`."""


class Wrapper(Tensor):
    """Holds a tensor and intercepts every operator, as DTensor and quantised tensors do."""

    held: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Wrapper:
        made = Tensor._make_wrapper_subclass(cls, inner.shape, strides=inner.stride(), dtype=inner.dtype)
        made.held = inner
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, function: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function.namespace != "aten":
            raise NotImplementedError(f"no rule for {function}")
        unwrap = lambda x: x.held if isinstance(x, Wrapper) else x  # noqa: E731
        args, kwargs = torch.utils._pytree.tree_map(unwrap, (args, kwargs or {}))
        wrap = lambda x: Wrapper(x) if isinstance(x, Tensor) else x  # noqa: E731
        return torch.utils._pytree.tree_map(wrap, function(*args, **kwargs))
