"""A training that was interrupted ends where an unbroken one does."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from promptprobe.tools.sprites.train import loop
from promptprobe.tools.sprites.train.data import batch


def loss(model: nn.Module, step: int) -> Tensor:
    generator = torch.Generator().manual_seed(step)
    pixels = torch.randn(4, 3, 8, 8, generator=generator)
    return (model(pixels) - pixels.mean(1, keepdim=True)).square().mean()


def test_an_interrupted_training_ends_with_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)

    def network() -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 1, 3, padding=1), nn.Linear(8, 8))

    def fit(name: str, loss: Callable[[nn.Module, int], Tensor]) -> nn.Module:
        model = network()
        matrices = [weight for weight in model.parameters() if weight.ndim == 2]
        return loop.fit(model, loss, steps=12, lr=0.1, out=tmp_path / name, hidden=matrices)

    def broken(model: nn.Module, step: int) -> Tensor:
        if step == 7:
            raise KeyboardInterrupt
        return loss(model, step)

    unbroken = fit("unbroken", loss)
    with pytest.raises(KeyboardInterrupt):
        fit("resumed", broken)
    resumed = fit("resumed", loss)
    for name, value in unbroken.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    lines = (tmp_path / "resumed/loss.jsonl").read_text().splitlines()
    assert lines == (tmp_path / "unbroken/loss.jsonl").read_text().splitlines()


def test_a_batch_is_a_pure_function_of_its_step_and_shows_only_training_scenes() -> None:
    images, _, scenes = batch(5, 8)
    again, _, _ = batch(5, 8)
    other, _, _ = batch(6, 8)
    assert torch.equal(images, again)
    assert not torch.equal(images, other)
    assert {scene.split for scene in scenes} == {"train"}
