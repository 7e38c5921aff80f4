"""What the commands say of LinGlo."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any


def test_models_say_that_it_is_a_reconstruction(call: Callable[..., Any]) -> None:
    answer = call("models", "linglo_b0", "--attention", "keyonly")
    assert answer.status == 0
    assert "a reconstruction" in answer.out
    assert "(reconstruction)" in " ".join(answer.out.split())
    assert "3.41 M" in answer.out
    assert "549.38 M" in answer.out
    assert "3136x" not in answer.out


def test_cost_with_any_attention(call: Callable[..., Any]) -> None:
    words = ("cost", "linglo_pico", "--attention", "keyonly", "--attention", "knn", "--size", "28,28", "--json")
    attention = json.loads(call(*words).out)["attention"]
    assert set(attention) == {"keyonly", "knn"}
    own, dense = (attention[name]["terms"] for name in ("keyonly", "knn"))
    assert own["convolutions"] == dense["convolutions"]
    assert own["scores"]["macs"] == 196 * 24 + 2 * 49 * 48
    assert dense["scores"]["macs"] == 196**2 * 24 + 2 * 49**2 * 48
    assert "MBConv" not in own


def test_pvt_says_why_it_cannot(call: Callable[..., Any]) -> None:
    answer = call("cost", "pvt_v2_pico", "--attention", "keyonly")
    assert answer.status == 2
    assert "cannot have" in answer.err
