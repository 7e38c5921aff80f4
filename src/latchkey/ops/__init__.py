"""Attention operators: tensors in, tensors out."""

from latchkey.ops.knn import knn_attention
from latchkey.ops.kv import kv_attention
from latchkey.ops.softmax import softmax_attention

__all__ = ["knn_attention", "kv_attention", "softmax_attention"]
