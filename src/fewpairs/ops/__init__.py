"""Attention operators: tensors in, tensors out."""

from fewpairs.ops.key_only import global_key_attention, key_only_attention
from fewpairs.ops.knn import knn_attention
from fewpairs.ops.kv import kv_attention
from fewpairs.ops.softmax import softmax_attention

__all__ = ["global_key_attention", "key_only_attention", "knn_attention", "kv_attention", "softmax_attention"]
