"""Attention for vision transformers without all the query-key pairs.

The names below load what they need when they are first used, so that `import fewpairs` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fewpairs.attention import KNN, KV, KeyOnly, KVPos, MultiHead, Softmax
    from fewpairs.ops import key_only_attention, knn_attention, kv_attention, softmax_attention
    from fewpairs.swap import swap_attention

__version__ = "0.1.0"

_HOME = {
    "KNN": "fewpairs.attention",
    "KV": "fewpairs.attention",
    "KVPos": "fewpairs.attention",
    "KeyOnly": "fewpairs.attention",
    "MultiHead": "fewpairs.attention",
    "Softmax": "fewpairs.attention",
    "key_only_attention": "fewpairs.ops",
    "knn_attention": "fewpairs.ops",
    "kv_attention": "fewpairs.ops",
    "softmax_attention": "fewpairs.ops",
    "swap_attention": "fewpairs.swap",
}

__all__ = [
    "KNN",
    "KV",
    "KVPos",
    "KeyOnly",
    "MultiHead",
    "Softmax",
    "__version__",
    "key_only_attention",
    "knn_attention",
    "kv_attention",
    "softmax_attention",
    "swap_attention",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'fewpairs' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
