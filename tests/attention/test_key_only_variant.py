"""The variant: its forms, its weights, and where the places of the tokens must be known."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fewpairs import KeyOnly, MultiHead
from fewpairs.attention import ConvProjection, parse_variant
from fewpairs.attention.key_only import padding_mask
from fewpairs.errors import InputError
from fewpairs.types import Grid

FORMS = ("R1", "R1c", "R2", "R3", "R3-R2")
GRID = Grid(3, 4, prefix=1)


def layer(variant: KeyOnly) -> MultiHead:
    made = MultiHead(16, 4, variant)
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.3)
    return made.eval()


@pytest.mark.parametrize("form", FORMS)
def test_there_is_no_query_and_the_dossiers_parameters(form: str) -> None:
    counted = sum(p.numel() for p in layer(KeyOnly(form)).parameters())
    linears = 3 * (16 * 16 + 16)
    saliency, convolution = (0 if form == "R1c" else 16), (10 * 16 if form.startswith("R3") else 0)
    assert counted == linears + saliency + convolution
    assert KeyOnly.roles == "kv"


@pytest.mark.parametrize("gate", ["key", "conv"])
@pytest.mark.parametrize("form", FORMS)
def test_permutation_equivariant_unless_it_convolves(form: str, gate: str) -> None:
    made, x = layer(KeyOnly(form, gate)), torch.randn(2, 13, 16)
    order = torch.cat([torch.tensor([0]), 1 + torch.randperm(12)])
    same = torch.allclose(made(x[:, order], GRID), made(x, GRID)[:, order], atol=1e-5)
    assert same == (not KeyOnly(form, gate).needs_grid)


def test_the_convolution_sees_neighbours_in_the_image() -> None:
    made, x = layer(KeyOnly("R3")), torch.randn(1, 13, 16)
    moved = x.clone()
    moved[0, 1] += 1
    keys, values = made.project(torch.cat([x, moved]), GRID)
    local = made.core.mix.local
    from fewpairs.attention.key_only import convolve_grid

    mapped = convolve_grid(local, values, GRID)
    changed = (mapped[0] - mapped[1]).abs().amax(dim=(0, 2)) > 1e-6
    assert changed.nonzero().flatten().tolist() == [1, 2, 5, 6]
    assert keys.shape == (2, 4, 13, 4)


def test_a_convolved_gate_starts_as_the_key() -> None:
    torch.manual_seed(0)
    plain = MultiHead(16, 4, KeyOnly())
    torch.manual_seed(0)
    convolved = MultiHead(16, 4, KeyOnly(gate="conv"))
    convolved.load_state_dict(plain.state_dict(), strict=False)
    x = torch.randn(2, 13, 16)
    torch.testing.assert_close(convolved(x, GRID), plain(x, GRID))


def test_all_positions_weigh_alike_at_the_start() -> None:
    made = MultiHead(16, 4, KeyOnly())
    keys, _ = made.project(torch.randn(2, 13, 16), GRID)
    torch.testing.assert_close(made.core.saliency(keys), torch.full((2, 4, 13), 1 / 13))


def test_a_mask_of_positions_counts_them_out() -> None:
    made = layer(KeyOnly())
    keys, values = made.project(torch.randn(2, 13, 16), GRID)
    mask = torch.ones(2, 1, 1, 13, dtype=torch.bool)
    mask[..., 9:] = False
    torch.testing.assert_close(
        made.core(keys, values, bias=mask)[:, :, :9], made.core(keys[:, :, :9], values[:, :, :9])
    )
    assert not made.core.saliency(keys, bias=mask)[..., 9:].any()
    rows = mask.expand(2, 1, 13, 13)
    torch.testing.assert_close(made.core(keys, values, bias=rows), made.core(keys, values, bias=mask))
    assert padding_mask(None, KeyOnly()) is None


@pytest.mark.parametrize("bias", [torch.zeros(1, 1, 1, 13), torch.ones(1, 1, 13, 13, dtype=torch.bool).tril()])
def test_masks_over_pairs_are_refused(bias: torch.Tensor) -> None:
    made = layer(KeyOnly())
    keys, values = made.project(torch.randn(2, 13, 16), GRID)
    with pytest.raises(InputError, match="has no pairs, so it takes no bias"):
        made.core(keys, values, bias=bias)


def test_without_a_grid_the_remedy_is_told() -> None:
    made = layer(KeyOnly("R3"))
    keys, values = made.project(torch.randn(2, 13, 16), GRID)
    with pytest.raises(InputError, match="use form='R1', 'R1c' or 'R2' with gate='key'"):
        made.core(keys, values)


def test_wrong_options_are_named() -> None:
    with pytest.raises(InputError, match="form='R4' is not known; allowed: 'R1', 'R1c', 'R2', 'R3', 'R3-R2'"):
        KeyOnly("R4")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="gate='value'"):
        parse_variant({"name": "key-only", "gate": "value"})
    with pytest.raises(InputError, match="uses keys as queries"):
        MultiHead(16, 4, KeyOnly(), project=ConvProjection.with_(stride_kv=2))
    with pytest.raises(InputError, match=r"takes no \[h n m\] bias"):
        MultiHead(16, 4, KeyOnly(), bias=lambda _grid: torch.zeros(4, 13, 13))


@pytest.mark.parametrize("form", FORMS)
def test_resetting_gives_fresh_weights(form: str) -> None:
    made = layer(KeyOnly(form))
    made.core.mix.reset_parameters()
    if made.core.mix.saliency is not None:
        assert not made.core.mix.saliency.any()
    assert all(p.isfinite().all() for p in made.parameters())


def test_a_mask_written_out_row_by_row_is_read() -> None:
    made = layer(KeyOnly())
    keys, values = made.project(torch.randn(2, 13, 16), GRID)
    mask = torch.ones(2, 1, 13, 13, dtype=torch.bool)
    mask[..., 9:] = False
    torch.testing.assert_close(made.core(keys, values, bias=mask), made.core(keys, values, bias=mask[:, :, :1]))
