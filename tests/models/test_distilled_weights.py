"""The encoder out of self-distillation checkpoints, DINO's own and ours."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer

from fewpairs.attention import KV
from fewpairs.models import load_pretrained
from fewpairs.models.checkpoint_names import distilled_encoder
from fewpairs.models.dino import DinoPair, ProjectionHead, TeacherSchedule
from fewpairs.models.encoders import ViTConfig, build_vit
from fewpairs.models.weights import read_weights

ENCODER = {"cls_token": torch.ones(1, 1, 4), "blocks.0.attn.qkv.weight": torch.randn(12, 4)}
STUDENT = {name: -value for name, value in ENCODER.items()}
HEAD = {"head.mlp.0.weight": torch.zeros(2, 4), "head.last_layer.weight_v": torch.zeros(3, 2)}


def published(module: str = "module.") -> dict[str, object]:
    """As `main_dino.py` writes it: the student wrapped for several GPUs, the teacher sometimes not."""

    def named(encoder: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
        return {f"{prefix}backbone.{n}": v for n, v in encoder.items()} | {f"{prefix}{n}": v for n, v in HEAD.items()}

    return {
        "student": named(STUDENT, "module."),
        "teacher": named(ENCODER, module),
        "epoch": 3,
        "optimizer": {"state": {}, "param_groups": [{"lr": 1e-3}]},
        "args": Namespace(arch="deit_small", output_dir=Path("/checkpoints/1")),
        "dino_loss": {"center": torch.zeros(1, 3)},
    }


def same(read: object, expected: dict[str, torch.Tensor]) -> bool:
    assert isinstance(read, dict)
    return read.keys() == expected.keys() and all(torch.equal(read[name], expected[name]) for name in expected)


@pytest.mark.parametrize("module", ["module.", ""])
def test_published_checkpoints(tmp_path: Path, module: str) -> None:
    content = published(module)
    assert same(distilled_encoder(content), ENCODER)
    assert same(distilled_encoder(content, "student"), STUDENT)
    assert same(distilled_encoder(content["teacher"]), ENCODER)
    torch.save(content, tmp_path / "full.pth")
    assert same(read_weights(tmp_path / "full.pth"), ENCODER)
    torch.save(content["teacher"], tmp_path / "teacher.pth")
    assert same(read_weights(tmp_path / "teacher.pth"), ENCODER)
    torch.save(ENCODER, tmp_path / "backbone.pth")
    assert same(read_weights(tmp_path / "backbone.pth"), ENCODER)


def test_other_weights_stay_as_they_are() -> None:
    for other in (
        {"encoder.blocks.0.attn.qkv.weight": torch.ones(1), "decoder.weight": torch.ones(1)},
        {"backbone.layers.0.weight": torch.ones(1), "decode_head.conv.weight": torch.ones(1)},
        {"head.weight": torch.ones(1)},
        {},
    ):
        assert distilled_encoder(other) is other


def test_the_pretrained_encoder_of_a_run_is_its_teachers(tmp_path: Path) -> None:
    student, teacher, fresh = (
        VisionTransformer(img_size=32, patch_size=8, num_classes=0, depth=1, embed_dim=12, num_heads=3)
        for _ in range(3)
    )
    pair = DinoPair(student, teacher, ProjectionHead(12, 6, hidden=8, bottleneck=4), TeacherSchedule(), steps=4)
    with torch.no_grad():
        for parameter in pair.student.parameters():
            parameter.add_(1.0)
    weights = {f"model.{name}": value.clone() for name, value in pair.state_dict().items()}
    save_file({**weights, "optimizer.student.head.direction.step": torch.zeros(())}, tmp_path / "best.safetensors")
    read = read_weights(tmp_path / "best.safetensors")
    assert same(read, dict(teacher.state_dict()))
    assert same(distilled_encoder(pair.state_dict(), "student"), dict(student.state_dict()))
    fresh.load_state_dict(read)
    image = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(fresh.eval()(image), pair.eval()(image))


def test_they_go_into_an_encoder_of_another_attention() -> None:
    vit = VisionTransformer(img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=3, num_classes=0)
    checkpoint = {"student": {}, "teacher": {f"module.backbone.{n}": v for n, v in vit.state_dict().items()}}
    ours = build_vit(ViTConfig(24, 2, 3, 8, class_token=True), KV(), image_size=(32, 32))
    report = load_pretrained(ours, checkpoint)
    assert report.layout == "timm ViT"
    rows = vit.state_dict()["blocks.1.attn.qkv.weight"][24:]
    assert torch.equal(ours.state_dict()["blocks.1.attn.attention.project.linear.weight"], rows)
