"""Experiments by name: Python functions whose docstring promises command, hardware, time and score."""

from __future__ import annotations

from collections.abc import Callable

from latchkey.experiment import Experiment
from latchkey.recipes import demo, small, uw_madison

RECIPES: dict[str, Callable[[], Experiment]] = {
    "demo": demo.demo,
    "setr_qkv_uw_madison": uw_madison.setr_qkv,
    "setr_kv_uw_madison": uw_madison.setr_kv,
    "setr_kvpos_uw_madison": uw_madison.setr_kvpos,
    "conv_setr_qkv_uw_madison": uw_madison.conv_setr_qkv,
    "conv_setr_kv_uw_madison": uw_madison.conv_setr_kv,
    "conv_setr_kvpos_uw_madison": uw_madison.conv_setr_kvpos,
    "cvt_setr_qkv_uw_madison": uw_madison.cvt_setr_qkv,
    "cvt_setr_kv_uw_madison": uw_madison.cvt_setr_kv,
    "cvt_setr_kvpos_uw_madison": uw_madison.cvt_setr_kvpos,
    "setr_qkv_small": small.setr_qkv,
    "setr_kv_small": small.setr_kv,
    "setr_kvpos_small": small.setr_kvpos,
    "conv_setr_qkv_small": small.conv_setr_qkv,
    "conv_setr_kv_small": small.conv_setr_kv,
    "conv_setr_kvpos_small": small.conv_setr_kvpos,
    "cvt_setr_qkv_small": small.cvt_setr_qkv,
    "cvt_setr_kv_small": small.cvt_setr_kv,
    "cvt_setr_kvpos_small": small.cvt_setr_kvpos,
}
"""Every recipe that the command line can name."""
