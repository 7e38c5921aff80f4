"""Attention for vision transformers without all the query-key pairs.

The names below load what they need when they are first used, so that `import latchkey` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latchkey.attention import KV, KVPos, MultiHead, Softmax
    from latchkey.ops import kv_attention, softmax_attention

__version__ = "0.1.0"

_HOME = {
    "KV": "latchkey.attention",
    "KVPos": "latchkey.attention",
    "MultiHead": "latchkey.attention",
    "Softmax": "latchkey.attention",
    "kv_attention": "latchkey.ops",
    "softmax_attention": "latchkey.ops",
}

__all__ = ["KV", "KVPos", "MultiHead", "Softmax", "__version__", "kv_attention", "softmax_attention"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'latchkey' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
