"""Segmenters as graphs: what was recorded at one size holds for others, against the model itself."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fewpairs import KNN, KVPos, Softmax
from fewpairs.attention import Variant
from fewpairs.errors import InputError
from fewpairs.models import create_classifier, create_segmenter
from fewpairs.models.padding import crop, pad_to_multiple, resize_and_crop

SIZES = ((2, 64, 64), (1, 64, 64), (2, 50, 33), (3, 96, 80), (1, 17, 100))
SEEN = (2, 1, 64, 64)
Graph = Callable[[Tensor], Tensor]
ANY = torch.export.Dim.DYNAMIC

pytestmark = [pytest.mark.usefixtures("unchecked"), pytest.mark.filterwarnings("ignore")]


class Frame(nn.Module):
    """Padding, a map of stride 8, and the way back to the image's size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 8, 8)

    def forward(self, image: Tensor) -> Tensor:
        size = (image.shape[2], image.shape[3])
        return resize_and_crop(self.conv(pad_to_multiple(image, 8)), size, 8)


def compare(
    model: nn.Module,
    graph: Callable[[Tensor], Tensor],
    sizes: Sequence[tuple[int, int, int]] = SIZES,
    channels: int = 1,
) -> None:
    with torch.no_grad():
        for b, h, w in sizes:
            image = torch.randn(b, channels, h, w)
            torch.testing.assert_close(graph(image), model(image), atol=1e-4, rtol=1e-4)


def run_onnx(model: nn.Module, folder: Path) -> Callable[[Tensor], Tensor]:
    import onnxruntime

    file = folder / "model.onnx"
    shapes = ({0: "batch", 2: "height", 3: "width"},)
    torch.onnx.export(model, (torch.randn(SEEN),), file, dynamo=True, dynamic_shapes=shapes, verbose=False)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda image: torch.from_numpy(session.run(None, {name: image.numpy()})[0])


def run_exported(model: nn.Module, folder: Path) -> Callable[[Tensor], Tensor]:
    shapes = ({0: ANY, 2: ANY, 3: ANY},)
    return torch.export.export(model, (torch.randn(SEEN),), dynamic_shapes=shapes).module()


def run_traced(model: nn.Module, folder: Path) -> Callable[[Tensor], Tensor]:
    return torch.jit.trace(model, torch.randn(SEEN), check_trace=False)


@pytest.mark.parametrize("record", [run_exported, run_traced])
def test_padding_and_cropping_hold_for_other_sizes(record: Callable[..., Graph], tmp_path: Path) -> None:
    model = Frame().eval()
    compare(model, record(model, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("record", [run_exported, run_onnx])
@pytest.mark.parametrize("variant", [Softmax(), KVPos(), KNN(0.5)], ids=str)
def test_a_segmenter_exports_for_all_sizes(record: Callable[..., Graph], variant: Variant, tmp_path: Path) -> None:
    model = create_segmenter("setr_pup_small", attention=variant, classes=2, in_channels=1).eval()
    compare(model, record(model, tmp_path))


def test_a_crop_is_a_slice() -> None:
    maps = torch.randn(1, 2, 8, 9)
    assert torch.equal(crop(maps, 5, 9), maps[..., :5, :])


def traced(model: nn.Module, *shape: int) -> Graph:
    """A graph of `torch.jit.trace`, saved and loaded again."""
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(model, torch.randn(shape), check_trace=False), buffer)
    buffer.seek(0)
    return torch.jit.load(buffer)


def refuses_other_sizes(graph: Graph, channels: int, side: int) -> None:
    for h, w in ((side // 2, 2 * side), (2 * side, 2 * side)):  # the first has as many tokens
        with torch.no_grad(), pytest.raises(torch.jit.Error, match="keeps the positions of the traced size"):
            graph(torch.randn(1, channels, h, w))


def test_a_traced_segmenter_refuses_other_sizes() -> None:
    model = create_segmenter("setr_pup_small", classes=2, in_channels=1).eval()
    graph = traced(model, *SEEN)
    compare(model, graph, ((1, 64, 64), (3, 64, 64)))
    refuses_other_sizes(graph, 1, 64)


@pytest.mark.parametrize("name", ["vit_pico", "swin_pico", "deit_tiny_patch16_224"])
def test_a_traced_classifier_of_one_size_refuses_others(name: str) -> None:
    model = create_classifier(name, classes=3, image_size=(32, 32)).eval()
    graph = traced(model, 2, 3, 32, 32)
    compare(model, graph, ((1, 32, 32), (3, 32, 32)), channels=3)
    refuses_other_sizes(graph, 3, 32)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "side"), [("so_vit_7", 64), ("t2t_vit_t_19", 32)])
def test_a_traced_token_classifier_refuses_other_sizes(name: str, side: int) -> None:
    model = create_classifier(name, classes=3, image_size=(side, side)).eval()
    graph = traced(model, 2, 3, side, side)
    compare(model, graph, ((1, side, side), (3, side, side)), channels=3)
    refuses_other_sizes(graph, 3, side)


@pytest.mark.parametrize("name", ["cvt_pico", "linglo_pico", "pvt_v2_pico"])
def test_a_traced_classifier_without_positions_holds_for_all_sizes(name: str) -> None:
    model = create_classifier(name, classes=3, image_size=(32, 32)).eval()
    compare(model, traced(model, 2, 3, 32, 32), ((1, 32, 32), (1, 16, 64), (3, 48, 48)), channels=3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "encoder"),
    [("cvt_setr_pup_small", None), ("semantic_fpn_narrow", "pvt_v2_b0"), ("upernet", "resnet18")],
)
def test_a_traced_segmenter_without_positions_holds_for_all_sizes(name: str, encoder: str | None) -> None:
    model = create_segmenter(name, classes=2, in_channels=1, encoder=encoder).eval()
    compare(model, traced(model, *SEEN))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vit_pico", "deit_tiny_patch16_224", "cvt_pico", "linglo_pico", "pvt_v2_pico"])
def test_a_classifier_exports_for_all_sizes(name: str) -> None:
    model = create_classifier(name, classes=3, image_size=(32, 32)).eval()
    graph = torch.export.export(model, (torch.randn(2, 3, 32, 32),), dynamic_shapes=({0: ANY, 2: ANY, 3: ANY},))
    compare(model, graph.module(), ((2, 32, 32), (1, 32, 64), (3, 48, 48)), channels=3)


@pytest.mark.slow
@pytest.mark.parametrize("record", [run_exported, run_onnx])
def test_a_segmenter_on_cvt_exports_for_all_sizes(record: Callable[..., Graph], tmp_path: Path) -> None:
    model = create_segmenter("cvt_setr_pup_small", classes=2, in_channels=1).eval()
    compare(model, record(model, tmp_path))


def test_a_convolutional_stem_refuses_dynamic_sizes(tmp_path: Path) -> None:
    model = create_segmenter("conv_setr_pup_small", classes=2, in_channels=1).eval()
    with pytest.raises(InputError, match="exports at one height and width"):
        run_exported(model, tmp_path)


@pytest.mark.slow
def test_a_convolutional_stem_exports_any_batch() -> None:
    model = create_segmenter("conv_setr_pup_small", classes=2, in_channels=1).eval()
    graph = torch.export.export(model, (torch.randn(SEEN),), dynamic_shapes=({0: ANY},)).module()
    compare(model, graph, ((1, 64, 64), (3, 64, 64)))
