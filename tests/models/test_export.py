"""Segmenters as graphs: what was recorded at one size holds for others, against the model itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fewpairs import KNN, KVPos, Softmax
from fewpairs.attention import Variant
from fewpairs.models import create_segmenter
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


def compare(model: nn.Module, graph: Callable[[Tensor], Tensor]) -> None:
    with torch.no_grad():
        for b, h, w in SIZES:
            image = torch.randn(b, 1, h, w)
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
