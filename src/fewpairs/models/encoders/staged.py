"""Base class of classifiers with stages: timm's interface, a final norm and a head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from fewpairs.errors import InputError
from fewpairs.models.encoders.vit import init_linear


class StagedClassifier(nn.Module):
    """`[b in_chans H W] -> [b num_classes]`: stages from fine to coarse, then a norm, pooling and one linear map.

    A subclass writes `forward_intermediates` and `pool`.

    Args:
        stages: modules with a `grad_checkpointing`.
        norm: of the last stage's features, before pooling.
        feature_info: entries of each stage as in timm: `num_chs`, `reduction`, `module`.
        pools: allowed values of `global_pool`, the default first; the empty text leaves the features unpooled.
    """

    def __init__(
        self,
        stages: Sequence[nn.Module],
        norm: nn.Module,
        feature_info: list[dict[str, Any]],
        *,
        in_chans: int,
        num_classes: int,
        drop_rate: float,
        pools: Sequence[str],
        global_pool: str | None,
    ) -> None:
        super().__init__()
        self.num_classes, self.in_chans, self.feature_info = num_classes, in_chans, feature_info
        self.num_features = self.head_hidden_size = self.embed_dim = feature_info[-1]["num_chs"]
        self.pools = tuple(pools)
        self.global_pool = self._checked_pool(self.pools[0] if global_pool is None else global_pool)
        self.stages, self.norm = nn.ModuleList(stages), norm
        self.head_drop = nn.Dropout(drop_rate)
        self.head = self._new_head(num_classes)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> Any:
        """Maps `[b c h w]` of chosen stages (all for None, the last ones for an int), and the features before them."""
        raise NotImplementedError

    def pool(self, x: Tensor) -> Tensor:
        """Features of `forward_features` -> `[b width]`, or as they are for `global_pool=""`."""
        raise NotImplementedError

    def stage_indices(self, indices: int | Sequence[int] | None) -> list[int]:
        """Return the stages that timm's `indices` name.

        Raises:
            InputError: no stage is named, or one that does not exist.
        """
        count = len(self.stages)
        if indices is None or isinstance(indices, int):
            first = 0 if indices is None else count - indices
            chosen = list(range(max(first, 0), count))
        else:
            chosen = [i % count if -count <= i < count else i for i in indices]
        if not chosen or any(not 0 <= i < count for i in chosen):
            raise InputError(f"indices={indices!r} must name stages from 0 to {count - 1}")
        return chosen

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove the stages after the last index; norm and head too if requested, or if they no longer fit."""
        wanted = self.stage_indices(indices)
        shorter = max(wanted) < len(self.stages) - 1
        self.stages = self.stages[: max(wanted) + 1]
        if prune_norm or shorter:
            self.norm = nn.Identity()
        if prune_head or shorter:
            self.reset_classifier(0)
        return wanted

    def forward_features(self, x: Tensor) -> Tensor:
        """The last stage's normalised features."""
        features: Tensor = self.forward_intermediates(x)[0]
        return features

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Features -> `[b num_classes]`, or the pooled features before the last layer."""
        x = self.head_drop(self.pool(x))
        return x if pre_logits else self.head(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        """Return the last layer."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the last layer by a new, untrained one; `num_classes=0` leaves the pooled features."""
        if global_pool is not None:
            self.global_pool = self._checked_pool(global_pool)
        self.num_classes = num_classes
        self.head = self._new_head(num_classes).to(next(self.parameters()).device)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the blocks in the backward pass to save memory."""
        for stage in self.stages:
            stage.grad_checkpointing = enable  # type: ignore[assignment]  # a plain attribute of each stage

    def _checked_pool(self, pool: str) -> str:
        if pool not in (*self.pools, ""):
            raise InputError(f"global_pool={pool!r} is not possible here; allowed: {', '.join(map(repr, self.pools))}")
        return pool

    def _new_head(self, classes: int) -> nn.Module:
        if classes < 1:
            return nn.Identity()
        head = nn.Linear(self.num_features, classes)
        init_linear(head)
        return head


def check_maps(output_fmt: str) -> None:
    """Raises InputError unless timm's `output_fmt` is the one that stages offer."""
    if output_fmt != "NCHW":
        raise InputError(f"output_fmt={output_fmt!r} is not offered; the maps are 'NCHW'")
