"""Synthetic candidates whose score is planted where a word looks, and made-up facts."""

from __future__ import annotations

from itertools import accumulate

import torch

from promptprobe.probe.card import Facts
from promptprobe.probe.shards import Examples, Row

SEEDS = 6
LAYERS = ("last/a", "earlier/a")
FACTS = Facts(
    scheduler="DDIMScheduler",
    prediction_type="v_prediction",
    dtype="float32",
    guidance=3.0,
    steps=25,
    k=5,
    timesteps=(999.0, 950.0),
    height=64,
    width=64,
    negative_prompt="",
    keys="text",
    layers=("down.attn2",),
    weights="a" * 64,
)


def planted(prompts: int, *, noise: float = 0.05, seed: int = 0) -> Examples:
    """Good where the prompt's noun looks left, however easy the prompt; its adjective is no help.

    Per prompt: one to three words, of which the last is the noun. A third of them validate.
    """
    random = torch.Generator().manual_seed(seed)
    rows, maps, embeddings = [], [], []
    for prompt in range(prompts):
        words = prompt % 3 + 1
        ease = float(torch.rand((), generator=random)) * 0.3
        for index in range(SEEDS):
            places = torch.rand(words, 2, generator=random)
            maps.append(_peaks(places))
            embeddings.append(torch.eye(8)[[*range(words - 1), 7]])
            error = noise * float(torch.randn((), generator=random))
            score = ease + 0.6 * (1 - float(places[-1, 1])) + error
            rows.append(
                Row(
                    scene=f"scene {prompt}",
                    prompt=f"prompt {prompt}",
                    seed=index,
                    kind="colours",
                    split="validation" if prompt % 3 == 2 or prompt % 7 == 0 else "train",
                    score=min(max(score, 0.0), 1.0),
                    preview=float(score > 0.5),
                    correct=score > 0.5,
                    words=tuple(f"word{place}" for place in range(words)),
                )
            )
    return Examples(
        maps=torch.cat(maps).half(),
        embeddings=torch.cat(embeddings).half(),
        starts=torch.tensor([0, *accumulate(len(row.words) for row in rows)]),
        special=torch.rand(len(rows), len(LAYERS), 16, 16, generator=random).half(),
        x0=torch.randn(len(rows), 2, 16, 16, generator=random).half(),
        gap=torch.randn(len(rows), 2, 16, 16, generator=random).half(),
        rows=tuple(rows),
        layers=LAYERS,
    )


def _peaks(places: torch.Tensor) -> torch.Tensor:
    """[word, row and col in 0 .. 1] -> [word, layer, 16, 16]: one bump a word."""
    grid = torch.arange(16) / 15
    down = (grid - places[:, 0, None]).square()[:, :, None]
    across = (grid - places[:, 1, None]).square()[:, None]
    return (0.3 * torch.exp(-20 * (down + across)))[:, None].expand(-1, len(LAYERS), 16, 16)
