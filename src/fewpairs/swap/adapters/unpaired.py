"""timm layers that are called attention and that no variant can replace, with the reason."""

from __future__ import annotations

from fewpairs.swap.adapter import Unsupported


def _unsupported(family: str, reason: str, *matches: str) -> Unsupported:
    return Unsupported(f"{family} (timm)", tuple(f"timm.{match}" for match in matches), reason)


_CHANNELS = "it weighs channels against channels: there are no pairs of tokens"
_LINEAR = "it sums over the keys before it meets the queries: there are no scores of pairs"
_MIXED = "a learned map mixes the scores of all heads before and after the softmax, so that no head has its own"

ADAPTERS = (
    _unsupported(
        "VOLO's outlooker",
        "the outlooker has no queries and keys: a linear map of each position gives the weights of its neighbours",
        "models.volo.OutlookAttention",
    ),
    _unsupported(
        "ViT with differential attention",
        "it computes the difference of two softmax maps of half the width, with weights that no variant has",
        "layers.diff_attention.DiffAttention",
    ),
    _unsupported(
        "ViT with parallel blocks",
        "attention and feed-forward share one projection, so there is no attention layer to replace",
        "models.vision_transformer.ParallelScalingBlock",
        "models.vision_transformer.DiffParallelScalingBlock",
    ),
    _unsupported(
        "XCiT",
        "cross-covariance attention weighs channels against channels: there are no pairs of tokens",
        "models.xcit.XCA",
    ),
    _unsupported("EdgeNeXt", _CHANNELS, "models.edgenext.CrossCovarianceAttn"),
    _unsupported("DaViT, channels", _CHANNELS, "models.davit.ChannelAttention", "models.davit.ChannelAttentionV2"),
    _unsupported("CaiT", _MIXED, "models.cait.TalkingHeadAttn"),
    _unsupported("EfficientFormer V2", _MIXED, "models.efficientformer_v2.Attention2d"),
    _unsupported("CoaT", _LINEAR, "models.coat.FactorAttnConvRelPosEnc"),
    _unsupported("MobileViT V2", _LINEAR, "models.mobilevit.LinearSelfAttention"),
    _unsupported("SwiftFormer", _LINEAR, "models.swiftformer.EfficientAdditiveAttention"),
    _unsupported(
        "EfficientViT (MSRA)",
        "the tokens of each head are the output of the head before it, so that heads cannot be computed together",
        "models.efficientvit_msra.CascadedGroupAttention",
    ),
    _unsupported(
        "NextViT, convolution",
        "it is a grouped convolution: there are no queries and keys",
        "models.nextvit.ConvAttention",
    ),
    _unsupported(
        "ResNeSt and SKNet",
        "it weighs branches of a convolution by channel: there are no queries and keys",
        "layers.split_attn.SplitAttn",
        "layers.selective_kernel.SelectiveKernelAttn",
    ),
    _unsupported(
        "BAT-ResNet",
        "a bilinear transform of rows and columns: there are no queries and keys",
        "layers.non_local_attn.BilinearAttnTransform",
    ),
)
