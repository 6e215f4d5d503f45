"""One training loop for every network of this project: progress, checkpoints, exact resumption.

A batch is a pure function of its step, so a checkpoint is the weights, the optimizer and a number.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

CHECKPOINT_SECONDS = 120.0


def fit(
    model: nn.Module,
    loss: Callable[[nn.Module, int], Tensor],
    *,
    steps: int,
    lr: float,
    out: Path,
    sheet: Callable[[nn.Module, Path], None] | None = None,
    weight_decay: float = 0.01,
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
    checkpoint = out / "checkpoint.pt"
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(ema))
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay)
    first = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        first = state["step"]
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])

    def save(step: int) -> None:
        partial = checkpoint.with_suffix(".partial")
        torch.save(
            {
                "step": step,
                "model": model.state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
            },
            partial,
        )
        partial.replace(checkpoint)
        if sheet:
            sheet(average.module.eval(), out / "sheet.png")

    saved, recent = time.monotonic(), []
    bar = tqdm(range(first, steps), initial=first, total=steps, desc=out.name, mininterval=10)
    for step in bar:
        for group in optimizer.param_groups:
            group["lr"] = lr * min((step + 1) / (0.02 * steps), 1, (steps - step) / (decay * steps))
        model.train()
        value = loss(model, step)
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update_parameters(model)
        recent.append(value.item())
        if len(recent) == 100:
            mean = math.fsum(recent) / len(recent)
            bar.set_postfix(loss=f"{mean:.4f}")
            with (out / "loss.jsonl").open("a") as log:
                log.write(json.dumps({"step": step + 1, "loss": round(mean, 5)}) + "\n")
            recent.clear()
        if time.monotonic() - saved > CHECKPOINT_SECONDS or step + 1 == steps:
            save(step + 1)
            saved = time.monotonic()
    return average.module.eval()
