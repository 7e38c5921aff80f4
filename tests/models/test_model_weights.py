"""Files of weights: what is read, and what is refused."""

import pickle

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from fewpairs.errors import CheckpointError
from fewpairs.models import create_segmenter, load_pretrained
from fewpairs.models.weights import read_weights

WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4)}


def same(read, expected=WEIGHTS):
    return set(read) == set(expected) and all(torch.equal(read[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    "content",
    [
        WEIGHTS,
        {"model": WEIGHTS, "epoch": 3},
        {"state_dict": {f"module.{name}": value for name, value in WEIGHTS.items()}},
        {"model_state_dict": WEIGHTS},
    ],
)
def test_pytorch_files_of_several_habits(tmp_path, content):
    torch.save(content, tmp_path / "weights.pth")
    assert same(read_weights(tmp_path / "weights.pth"))


def test_safetensors(tmp_path):
    save_file(WEIGHTS, tmp_path / "plain.safetensors")
    assert same(read_weights(str(tmp_path / "plain.safetensors")))
    training = {f"model.{name}": value for name, value in WEIGHTS.items()}
    save_file({**training, "ema.b": torch.zeros(4), "optimizer.0": torch.zeros(1)}, tmp_path / "run.safetensors")
    assert same(read_weights(tmp_path / "run.safetensors"))


class Evil:
    """Pickles to a call."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (open, (str(self.trace), "w"))


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_file_is_never_run(tmp_path, legacy):
    path, trace = tmp_path / "evil.pth", tmp_path / "ran"
    torch.save({"model": WEIGHTS, "args": Evil(trace)}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match="more than tensors"):
        read_weights(path)
    assert not trace.exists()


def test_a_bare_pickle_is_never_run(tmp_path):
    path, trace = tmp_path / "evil.pt", tmp_path / "ran"
    path.write_bytes(pickle.dumps(Evil(trace)))
    with pytest.raises(CheckpointError):
        read_weights(path)
    assert not trace.exists()


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 0.999), suffix=st.sampled_from([".pth", ".safetensors"]))
def test_a_truncated_file_is_refused(tmp_path, share, suffix):
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(WEIGHTS, path)
    else:
        save_file(WEIGHTS, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(CheckpointError, match="weights"):
        read_weights(path)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200), suffix=st.sampled_from([".pth", ".safetensors", ".bin"]))
def test_any_other_bytes_are_refused(tmp_path, content, suffix):
    path = tmp_path / f"noise{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError):
        read_weights(path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"epoch": 3, "b": torch.ones(1)}, "not tensors: epoch"),
        ({}, "no tensors by name"),
        ([1, 2], "no tensors by name"),
    ],
)
def test_what_holds_no_weights_is_refused(tmp_path, content, says):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=says):
        read_weights(tmp_path / "x.pth")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"nothing\.pth: there is no such file"):
        read_weights(tmp_path / "nothing.pth")
    with pytest.raises(CheckpointError, match="no such file"):
        read_weights(tmp_path)


def test_hub_names_go_to_timm(monkeypatch):
    asked = []

    class Hub:
        def state_dict(self):
            return WEIGHTS

    def create_model(name, *, pretrained):
        asked.append((name, pretrained))
        if name == "gone":
            raise RuntimeError("no weights\nof this name")
        return Hub()

    monkeypatch.setattr("fewpairs.models.weights.timm.create_model", create_model)
    assert same(read_weights("timm:vit_base_patch16_224.augreg_in21k"))
    assert asked == [("vit_base_patch16_224.augreg_in21k", True)]
    with pytest.raises(CheckpointError, match=r"timm:gone.*RuntimeError: no weights"):
        read_weights("timm:gone")


def test_from_a_file_into_a_new_model(tmp_path):
    source = create_segmenter("setr_naive_small", classes=2).eval()
    save_file(source.state_dict(), tmp_path / "best.safetensors")
    model = create_segmenter("setr_naive_small", classes=2, pretrained=tmp_path / "best.safetensors").eval()
    image = torch.randn(1, 3, 16, 16)
    assert torch.equal(model(image), source(image))
    assert load_pretrained(model, tmp_path / "best.safetensors").layout == "fewpairs"
