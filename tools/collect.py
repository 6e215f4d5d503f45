"""What a probe learns from: `python -m promptprobe.tools.collect --out DIR --candidates N`.

Draws scenes of a split, gives each one wording and several seeds, records the first steps of
every (prompt, seed), renders it by continuing from there, and scores the preview and the picture
against the wording. What a shard holds is a function of its number alone: killed at any moment, the
command goes on at the first shard that is missing, and asking for more candidates later only adds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from tqdm import tqdm

from promptprobe.probe.card import facts_of
from promptprobe.probe.family import Family, Images, Settings
from promptprobe.probe.shards import Collection, Row, open_collection, write_shard
from promptprobe.probe.trace import Trace, join, record_trace
from promptprobe.tools.records import Score
from promptprobe.tools.sprites.language import word
from promptprobe.tools.sprites.world import (
    Kind,
    Scene,
    Split,
    fraction,
    scene_seed,
    scenes,
)

SHARES: dict[Kind, float] = {
    "one object": 0.05,
    "colours": 0.10,
    "two objects": 0.15,
    "counting": 0.20,
    "attribute binding": 0.25,
    "position": 0.25,
}
"""Kinds whose seeds differ more teach more."""
BATCH = 16
PER_SHARD = 64
"""Prompts; with 8 seeds, 512 candidates and about 18 MB."""

Scorer = Callable[[str, Images], Sequence[Score]]


@dataclass(frozen=True)
class Group:
    """One wording of a scene with its seeds."""

    scene: Scene
    prompt: str
    seeds: tuple[int, ...]


def groups(split: Split, seeds: int) -> Iterator[Group]:
    """Groups of a split without end, always the same ones; no (scene, seed) comes twice.

    One-object scenes cannot be new, so outside the training split only their seeds are.
    """
    pools = {kind: _pool(kind, split) for kind in SHARES}
    shares = np.array([SHARES[kind] if pools[kind] else 0.0 for kind in SHARES])
    kinds, taken = list(SHARES), dict.fromkeys(SHARES, 0)
    for number in count():
        rng = np.random.default_rng([int(fraction("collect", split) * 2**52), number])
        kind = kinds[rng.choice(len(kinds), p=shares / shares.sum())]
        turn, place = divmod(taken[kind], len(pools[kind]))
        taken[kind] += 1
        scene = pools[kind][place]
        indices = range(turn * seeds, (turn + 1) * seeds)
        yield Group(scene, word(scene, rng), tuple(scene_seed(split, scene, i) for i in indices))


def _pool(kind: Kind, split: Split) -> list[Scene]:
    found = [scene for scene in scenes(kind) if kind == "one object" or scene.split == split]
    return sorted(found, key=lambda scene: fraction("collect order", split, scene.key))


@dataclass(frozen=True)
class Collector:
    """What makes candidates: a model, its settings, and who judges."""

    family: Family
    settings: Settings
    k: int
    """Steps to probe, of settings.steps."""
    scorer: Scorer
    bf16: bool = False
    """Render the steps after the probed ones in bfloat16 autocast; traces stay exact."""

    def shard(self, split: Split, chosen: Sequence[Group]) -> tuple[Trace, list[Row]]:
        """Trace, render and score every candidate of these groups, in batches of `BATCH`."""
        pairs = [(group.prompt, seed) for group in chosen for seed in group.seeds]
        traces, images, looks = [], [], []
        for at in range(0, len(pairs), BATCH):
            trace, pixels = self._render(pairs[at : at + BATCH])
            traces.append(trace)
            images.append(pixels)
            looks.append(self.family.decode(trace.x0))
        trace, pixels, previews = join(traces), np.concatenate(images), np.concatenate(looks)
        rows: list[Row] = []
        for group in chosen:
            own = slice(len(rows), len(rows) + len(group.seeds))
            scores = self.scorer(group.prompt, pixels[own])
            seen = self.scorer(group.prompt, previews[own])
            rows += [
                Row(
                    scene=group.scene.key,
                    prompt=group.prompt,
                    seed=seed,
                    kind=group.scene.kind,
                    split=split,
                    score=score.value,
                    preview=preview.value,
                    correct=score.correct,
                    explanation=score.explanation or score.reason,
                    words=words,
                )
                for seed, score, preview, words in zip(
                    group.seeds, scores, seen, trace.words[own], strict=True
                )
            ]
        return trace, rows

    def _render(self, pairs: Sequence[tuple[str, int]]) -> tuple[Trace, Images]:
        prompts, seeds = [prompt for prompt, _ in pairs], [seed for _, seed in pairs]
        trace, state = record_trace(self.family, prompts, seeds, self.settings, self.k)
        conditioning = self.family.encode(prompts, self.settings)
        with self._precision():
            state = self.family.denoise(state, conditioning, self.settings, self.settings.steps)
        return trace, self.family.decode(state.latents.float())

    def _precision(self) -> AbstractContextManager[object]:
        return torch.autocast("cpu", torch.bfloat16) if self.bf16 else nullcontext()


def collect(
    collector: Collector,
    out: Path,
    candidates: int,
    *,
    model: str,
    split: Split = "train",
    seeds: int = 8,
    per_shard: int = PER_SHARD,
) -> int:
    """Fill a folder with shards of a split until it holds at least so many of its candidates.

    The number of shards written now is returned. ShardError: the folder was begun with another
    model, or otherwise.
    """
    collection = Collection(
        model=model,
        target="sprites score",
        seeds=seeds,
        per_shard=per_shard,
        rendered_in="bfloat16" if collector.bf16 else "float32",
        facts=facts_of(collector.family, collector.settings, collector.k),
    )
    open_collection(out, collection)
    source, written = groups(split, seeds), 0
    size = per_shard * seeds
    shards = -(-candidates // size)
    paths = [out / f"{split}-{number:05}.safetensors" for number in range(shards)]
    held = sum(path.exists() for path in paths)
    print(f"{out}: {held} of {shards} shards of {size} candidates are there")
    with tqdm(total=shards * size, initial=held * size, unit="candidate", desc=split) as bar:
        for path in paths:
            chosen = list(islice(source, per_shard))
            if path.exists():
                continue
            write_shard(path, *collector.shard(split, chosen))
            written += 1
            bar.update(size)
    return written


def main() -> None:
    parser = argparse.ArgumentParser(description="Collect what a probe of Sprites learns from.")
    parser.add_argument("--out", type=Path, required=True, help="folder of the shards")
    parser.add_argument("--candidates", type=int, required=True, help="at least so many")
    parser.add_argument("--split", choices=get_args(Split), default="train")
    parser.add_argument("--seeds", type=int, default=8, help="per prompt")
    parser.add_argument("--steps", type=int, help="to probe; default: a fifth of all")
    parser.add_argument("--bf16", action="store_true", help="render what follows in bfloat16")
    options = parser.parse_args()
    if options.candidates < 1 or options.seeds < 1:
        parser.error("--candidates and --seeds must be at least 1")

    from promptprobe.tools.models import open_model
    from promptprobe.tools.sprites.scorer import score_images

    try:
        opened = open_model("sprites")
        used = opened.generation.model_dump(include={"steps", "guidance", "height", "width"})
        settings = Settings(**used)
        k = options.steps or max(1, round(settings.steps / 5))
        collector = Collector(opened.family, settings, k, score_images, options.bf16)
        collect(
            collector,
            options.out,
            options.candidates,
            model=opened.name,
            split=options.split,
            seeds=options.seeds,
        )
    except ValueError as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
