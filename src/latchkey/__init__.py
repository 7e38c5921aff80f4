"""Attention for vision transformers without all the query-key pairs."""

from latchkey.attention import KV, KVPos, MultiHead, Softmax
from latchkey.ops import kv_attention, softmax_attention

__version__ = "0.1.0"

__all__ = ["KV", "KVPos", "MultiHead", "Softmax", "__version__", "kv_attention", "softmax_attention"]
