"""Synthetic candidates whose score is planted where a word looks, and made-up facts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch

from promptprobe.probe.model.calibration import Calibration
from promptprobe.probe.model.card import Card, ModelSpec, ProbeStep, Target, ranges_of
from promptprobe.probe.model.network import NetworkConfig, PreviewScore
from promptprobe.probe.trace import Trace
from promptprobe.probe.training.shards import Collection, Examples, PreviewScores, Row

SEEDS = 6
LAYERS = ("a", "b")
TARGETS = ("planted score", "other score")
WINDOWS = (2, 5)
FACTS = ModelSpec(
    scheduler="DDIMScheduler",
    prediction_type="v_prediction",
    dtype="float32",
    guidance=3.0,
    steps=25,
    timesteps=tuple(999.0 - 40 * step for step in range(25)),
    height=64,
    width=64,
    negative_prompt="",
    keys="text",
    layers=("down.attn2",),
    weights="a" * 64,
)


COLLECTION = Collection(model="tiny", targets=TARGETS, windows=WINDOWS, facts=FACTS)


def a_card(shape: NetworkConfig) -> Card:
    """Of a probe for the planted candidates."""
    names = TARGETS[: shape.targets]
    return Card(
        model="tiny",
        made_with=FACTS,
        ranges=ranges_of(FACTS),
        shape=shape,
        weights_sha256="0" * 64,
        targets=tuple(Target(name=name, low=0.0, high=1.0, median=0.5) for name in names),
        windows=tuple(
            ProbeStep(k=k, calibration=(Calibration(margin=0.05),) * len(names), figures={})
            for k in WINDOWS[: shape.windows]
        ),
        candidates=100,
        prompts=10,
    )


def previews(words: int, score: float) -> tuple[PreviewScores, PreviewScores]:
    """What a scorer says of the two previews: nothing yet, then whether the image will be good."""
    rough = PreviewScores(score=float(score > 0.5), words=(*(None,) * (words - 1), 0.5))
    return PreviewScores(score=None, words=(None,) * words), rough


def planted(prompts: int, *, noise: float = 0.05, seed: int = 0) -> Examples:
    """Good where the prompt's noun looks left, however easy the prompt; its adjective is no help.

    Per prompt: one to three words, of which the last is the noun. A third of them validate. After
    the first window's steps the maps are those of the second, half drowned; the second target is
    the first one turned round, from 10 down to 0; the noun is drawn where it looks left.
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
            score = min(max(ease + 0.6 * (1 - float(places[-1, 1])) + error, 0.0), 1.0)
            rows.append(
                Row(
                    scene=f"scene {prompt}",
                    prompt=f"prompt {prompt}",
                    seed=index,
                    split="validation" if prompt % 3 == 2 or prompt % 7 == 0 else "train",
                    scores={TARGETS[0]: score, TARGETS[1]: 10 * (1 - score)},
                    correct=score > 0.5,
                    words=tuple(f"word{place}" for place in range(words)),
                    drawn=(*(None,) * (words - 1), bool(places[-1, 1] < 0.5)),
                    previews=previews(words, score),
                )
            )
    clear = torch.cat(maps)
    latents = (len(WINDOWS), len(rows), 2, 16, 16)
    return Examples(
        maps=torch.stack(
            [clear / 2 + 0.1 * torch.rand(clear.shape, generator=random), clear]
        ).half(),
        embeddings=torch.cat(embeddings).half(),
        starts=torch.tensor([0, *accumulate(len(row.words) for row in rows)]),
        x0=torch.randn(latents, generator=random).half(),
        gap=torch.randn(latents, generator=random).half(),
        rows=tuple(rows),
        layers=LAYERS,
    )


def at(examples: Examples, indices: Sequence[int], window: int = 1) -> tuple[Trace, PreviewScore]:
    """These candidates after one window's steps."""
    return examples.batch(indices, torch.full((len(indices),), window))


def _peaks(places: torch.Tensor) -> torch.Tensor:
    """[word, row and col in 0 .. 1] -> [word, layer, 16, 16]: one bump a word."""
    grid = torch.arange(16) / 15
    down = (grid - places[:, 0, None]).square()[:, :, None]
    across = (grid - places[:, 1, None]).square()[:, None]
    return (0.3 * torch.exp(-20 * (down + across)))[:, None].expand(-1, len(LAYERS), 16, 16)
