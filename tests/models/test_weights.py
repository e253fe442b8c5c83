from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import save_file

from dsgd.models import Mlp, ResNet18
from dsgd.models.weights import load_weights

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = (1, 8, 8)


@pytest.fixture
def model() -> torch.nn.Module:
    return Mlp(widths=(5,)).build(SHAPE, 10)


def test_a_resnet18_starts_from_its_file(tmp_path: Path) -> None:
    saved = ResNet18().build(SHAPE, 10).state_dict()
    save_file(saved, tmp_path / "start.safetensors")
    loaded = ResNet18(weights=str(tmp_path / "start.safetensors")).build(SHAPE, 10).state_dict()
    assert all(torch.equal(saved[name], loaded[name]) for name in saved)
    assert {"conv1.weight", "bn1.bias", "layer2.0.downsample.0.weight", "layer4.1.conv2.weight", "fc.bias"} <= set(
        saved
    )


def test_the_file_must_exist(model: torch.nn.Module, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors does not exist: give the path of a safetensors"):
        load_weights(model, tmp_path / "none.safetensors")


def test_the_file_must_be_safetensors(model: torch.nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "start.safetensors"
    path.write_bytes(b"pickle")
    with pytest.raises(ValueError, match=r"start\.safetensors is not a safetensors file"):
        load_weights(model, path)


def test_misfits_are_named(model: torch.nn.Module, tmp_path: Path) -> None:
    state = model.state_dict()
    del state["1.weight"]
    state["extra"] = torch.zeros(1)
    state["3.bias"] = torch.zeros(7)
    save_file(state, tmp_path / "start.safetensors")
    with pytest.raises(ValueError, match="is of another model") as caught:
        load_weights(model, tmp_path / "start.safetensors")
    assert "1 missing, the first 1.weight; 1 unknown, the first extra" in str(caught.value)
    assert "1 of another shape, the first 3.bias (7,) instead of (10,)" in str(caught.value)
