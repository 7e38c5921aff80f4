"""Attention operators: tensors in, tensors out."""

from latchkey.ops.key_only import global_key_attention, key_only_attention
from latchkey.ops.knn import knn_attention
from latchkey.ops.kv import kv_attention
from latchkey.ops.softmax import softmax_attention

__all__ = ["global_key_attention", "key_only_attention", "knn_attention", "kv_attention", "softmax_attention"]
