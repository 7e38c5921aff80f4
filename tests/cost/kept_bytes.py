"""What autograd keeps, to compare the cost breakdown with: by kernels that run anywhere, which it counts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fewpairs.ops import key_only, knn, kv


def really_kept(model: nn.Module, image: Tensor, **options: object) -> int:
    """Bytes of distinct memory, weights and image left out, that autograd keeps in a real forward pass."""
    known = {t.untyped_storage()._cdata for t in (*model.parameters(), *model.buffers(), image)}
    kept = []

    def pack(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage()._cdata not in known:
            known.add(tensor.untyped_storage()._cdata)
            kept.append(tensor)
        return tensor

    with pytest.MonkeyPatch.context() as patch, torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        for operator in (key_only, knn, kv):
            patch.setattr(operator.native.LIBRARY, "unavailable", lambda: "switched off")
        model.train()(image, **options)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept)
