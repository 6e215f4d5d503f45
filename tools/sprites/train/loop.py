"""One training loop for all networks of Sprites: progress, checkpoints, exact resumption.

A batch is a pure function of its step, so a checkpoint is the weights, the optimizer and a number.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from promptprobe.probe.files import replacing

CHECKPOINT_SECONDS = 120.0
MUON = 4.0
"""Ratio of Muon's learning rate to AdamW's."""


def arguments(about: str | None, steps: int, *, vae: bool = False) -> argparse.Namespace:
    """Parse a training's command line, and seed torch's random numbers."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=steps, help="number of batches")
    if vae:
        parser.add_argument("--vae", type=Path, required=True, help="the autoencoder's folder")
    torch.manual_seed(0)
    return parser.parse_args()


@dataclass
class Training:
    """The state in a checkpoint: network, moving average, optimizers and next step."""

    model: nn.Module
    average: AveragedModel
    optimizers: dict[str, torch.optim.Optimizer]
    step: int = 0

    def load(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        self.step = state["step"]
        for name, part in self._parts().items():
            part.load_state_dict(state[name])

    def save(self, path: Path) -> None:
        parts = {name: part.state_dict() for name, part in self._parts().items()}
        with replacing(path) as partial:
            torch.save({"step": self.step, **parts}, partial)

    def _parts(self) -> dict[str, Any]:
        return {"model": self.model, "average": self.average, **self.optimizers}

    def learn(self, loss: Callable[[nn.Module, int], Tensor], rate: float) -> float:
        """Take one step at a share `rate` of the full learning rates, and return its loss."""
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = rate * optimizer.defaults["lr"]
        self.model.train()
        value = loss(self.model, self.step)
        self.model.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers.values():
            optimizer.step()
        self.average.update_parameters(self.model)
        self.step += 1
        return value.item()


def optimizers(
    model: nn.Module, lr: float, hidden: Sequence[nn.Parameter]
) -> dict[str, torch.optim.Optimizer]:
    """Optimizers by name: Muon for the hidden matrices, AdamW for all other weights."""
    matrices = {id(weight) for weight in hidden}
    rest = [weight for weight in model.parameters() if id(weight) not in matrices]
    found: dict[str, torch.optim.Optimizer] = {"optimizer": torch.optim.AdamW(rest, lr=lr)}
    if hidden:
        found["muon"] = torch.optim.Muon(
            hidden, lr=MUON * lr, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"
        )
    return found


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
    hidden: Sequence[nn.Parameter] = (),
) -> nn.Module:
    """Train `model` for `steps` and return its moving average, in eval mode.

    `loss(model, step)` draws its own batch from `step`. The learning rate warms up linearly over 2%
    of the steps, stays flat, and falls linearly to zero over the last `decay` share. `out` receives
    `checkpoint.pt` (every two minutes), `loss.jsonl` and, if `sheet` is given, a picture with each
    checkpoint. Muon (Jordan et al. 2024) optimizes the matrices in `hidden` at MUON times the rate,
    AdamW all other weights. If it is killed and called again, it continues and ends with the same
    weights on the same device.
    """
    out.mkdir(parents=True, exist_ok=True)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster on a CPU
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(ema))
    training = Training(model, average, optimizers(model, lr, hidden))
    checkpoint = out / "checkpoint.pt"
    if checkpoint.exists():
        training.load(checkpoint)
    first, saved = training.step, time.monotonic()
    for step in tqdm(range(first, steps), initial=first, total=steps, desc=out.name):
        rate = min((step + 1) / (0.02 * steps), 1, (steps - step) / (decay * steps))
        value = training.learn(loss, rate)
        with (out / "loss.jsonl").open("a") as log:
            log.write(json.dumps({"step": step, "loss": round(value, 5)}) + "\n")
        if time.monotonic() - saved > CHECKPOINT_SECONDS or step + 1 == steps:
            training.save(checkpoint)
            if sheet:
                sheet(average.module.eval(), out / "sheet.png")
            saved = time.monotonic()
    return average.module.eval()
