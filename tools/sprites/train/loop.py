"""One training loop for every network of this project: progress, checkpoints, exact resumption.

A batch is a pure function of its step, so a checkpoint is the weights, the optimizer and a number.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

CHECKPOINT_SECONDS = 120.0


@dataclass
class Training:
    """What a checkpoint holds: the network, its moving average, the optimizer and the next step."""

    model: nn.Module
    average: AveragedModel
    optimizer: torch.optim.Optimizer
    step: int = 0

    def load(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        self.step = state["step"]
        for name in ("model", "average", "optimizer"):
            getattr(self, name).load_state_dict(state[name])

    def save(self, path: Path) -> None:
        parts = {
            name: getattr(self, name).state_dict() for name in ("model", "average", "optimizer")
        }
        partial = path.with_suffix(".partial")
        torch.save({"step": self.step, **parts}, partial)
        partial.replace(path)

    def learn(self, loss: Callable[[nn.Module, int], Tensor], lr: float) -> float:
        """One step; its loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.model.train()
        value = loss(self.model, self.step)
        self.optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.average.update_parameters(self.model)
        self.step += 1
        return value.item()


def fit(
    model: nn.Module,
    loss: Callable[[nn.Module, int], Tensor],
    *,
    steps: int,
    lr: float,
    out: Path,
    sheet: Callable[[nn.Module, Path], None] | None = None,
    decay: float = 0.2,
    ema: float = 0.999,
) -> nn.Module:
    """Train `model` for `steps` and return its moving average, in eval mode.

    `loss(model, step)` draws its own batch from `step`. Learning rate: linear warm-up over 2% of
    the steps, then flat, then linear to zero over the last `decay` share. `out` receives
    `checkpoint.pt` (every two minutes), `loss.jsonl` and, where `sheet` is given, a picture beside
    each checkpoint. Killed and called again it continues, and ends with the same weights on the
    same device.
    """
    out.mkdir(parents=True, exist_ok=True)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster on a CPU
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(ema))
    training = Training(model, average, torch.optim.AdamW(model.parameters()))
    checkpoint = out / "checkpoint.pt"
    if checkpoint.exists():
        training.load(checkpoint)
    first, saved = training.step, time.monotonic()
    for step in tqdm(range(first, steps), initial=first, total=steps, desc=out.name):
        rate = min((step + 1) / (0.02 * steps), 1, (steps - step) / (decay * steps))
        value = training.learn(loss, lr * rate)
        with (out / "loss.jsonl").open("a") as log:
            log.write(json.dumps({"step": step, "loss": round(value, 5)}) + "\n")
        if time.monotonic() - saved > CHECKPOINT_SECONDS or step + 1 == steps:
            training.save(checkpoint)
            if sheet:
                sheet(average.module.eval(), out / "sheet.png")
            saved = time.monotonic()
    return average.module.eval()
