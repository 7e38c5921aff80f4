"""Attention for vision transformers without all the query-key pairs.

The names below load what they need when they are first used, so that `import latchkey` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latchkey.attention import KNN, KV, KeyOnly, KVPos, MultiHead, Softmax
    from latchkey.ops import key_only_attention, knn_attention, kv_attention, softmax_attention
    from latchkey.swap import swap_attention

__version__ = "0.1.0"

_HOME = {
    "KNN": "latchkey.attention",
    "KV": "latchkey.attention",
    "KVPos": "latchkey.attention",
    "KeyOnly": "latchkey.attention",
    "MultiHead": "latchkey.attention",
    "Softmax": "latchkey.attention",
    "key_only_attention": "latchkey.ops",
    "knn_attention": "latchkey.ops",
    "kv_attention": "latchkey.ops",
    "softmax_attention": "latchkey.ops",
    "swap_attention": "latchkey.swap",
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
        raise AttributeError(f"module 'latchkey' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
