"""Attention operators: tensors in, tensors out."""

from latchkey.ops.kv import kv_attention
from latchkey.ops.softmax import softmax_attention

__all__ = ["kv_attention", "softmax_attention"]
