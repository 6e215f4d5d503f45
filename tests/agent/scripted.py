"""Deterministic tools without a model: scores come from hashing, pictures are a few pixels.

A real implementation of `Tools` that keeps a log of all it did, one line a candidate, so that a
test can count what a killed run repeats.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from PIL import Image

from promptprobe.agent import run_folder
from promptprobe.agent.rewrite.proposers import OfflineProposer
from promptprobe.agent.run_folder import RunSettings
from promptprobe.agent.runner import run_loop
from promptprobe.tools.models.built_in import built_in
from promptprobe.tools.protocol import Probed, Rendered
from promptprobe.tools.records import (
    BUDGETS,
    Budget,
    Candidate,
    Generation,
    Prediction,
    Score,
    Word,
)


def offline() -> OfflineProposer:
    """The built-in model's own rewriter."""
    own = built_in("sprites")
    assert own
    return OfflineProposer(own.rewrites, own.rewriter)


def luck(*words: object) -> float:
    digest = hashlib.sha256("|".join(map(str, words)).encode()).digest()
    return int.from_bytes(digest[:4]) / 2**32


@dataclass
class ScriptedTools:
    """Scores are a hash of prompt and seed; a prediction is the score, somewhat blurred."""

    log: Path
    correct_above: float = 2.0
    """A score above this is correct; never, by default."""
    scorer_fails: bool = False
    cut: tuple[str, ...] = ()
    reads: int = 1000
    """Words of a prompt that the text encoder reads."""
    die_after: int | None = None
    """Kill the own process (SIGKILL) once so many candidates were probed or rendered."""
    model_name: str = "scripted"
    scorer_name: str = "red and green"
    judge_names: tuple[str, ...] = ("second",)
    pipeline_name: str = "StableDiffusionPipeline"
    settings_used: Generation = field(default_factory=lambda: Generation(guidance=3.0))
    probe_steps: int = 5
    nfe_per_render: int = 50
    batch_size: int = 4
    ranks: Mapping[int, float] = field(default_factory=lambda: {5: 0.85, 10: 0.97})
    preview_ranks: Mapping[int, float] = field(default_factory=dict)

    def probe(
        self,
        brief: str,
        candidates: Sequence[Candidate],
        folder: Path,
        heatmaps: Path | None = None,
        *,
        step: int | None = None,
        latents: Sequence[Path | None] = (),
        previews_only: bool = False,
        previews: Path | None = None,
    ) -> list[Probed]:
        assert heatmaps is None, "scripted tools have no attention to draw"
        starts = latents or [None] * len(candidates)
        to = step or self.probe_steps
        found = [self._probe(c, p, to, folder) for c, p in zip(candidates, starts, strict=True)]
        return [self._shown(c, one, previews) for c, one in zip(candidates, found, strict=True)]

    def _shown(self, candidate: Candidate, found: Probed, folder: Path | None) -> Probed:
        if folder is None:
            return found
        folder.mkdir(exist_ok=True)
        path = folder / f"{candidate.key}-{found.step}.png"
        Image.new("RGB", (2, 2), (0, 0, found.step)).save(path)
        return found.model_copy(update={"preview": path})

    def _probe(self, candidate: Candidate, start: Path | None, step: int, folder: Path) -> Probed:
        self._note(f"probe-{step}", candidate)
        latents = folder / f"{candidate.key}-{step}.txt"
        before = self._stood(candidate, start)
        latents.write_text(f"{candidate.key} {step}")
        blur = 0.2 * luck("blur", candidate.key)
        focus = Word(word="cat", focus=luck("focus", candidate.key))
        score = self._score(candidate) + blur
        prediction = Prediction(score=score, basis="preview", words=(focus,))
        return Probed(
            step=step, prediction=prediction, latents=latents, nfe=2 * (step - before), cut=self.cut
        )

    def _stood(self, candidate: Candidate, latents: Path | None) -> int:
        """After how many steps the latents are of this candidate; 0: there are none."""
        if latents is None:
            return 0
        key, step = latents.read_text().split()
        assert key == candidate.key
        return int(step)

    def render(
        self, candidates: Sequence[Candidate], latents: Sequence[Path | None], folder: Path
    ) -> list[Rendered]:
        return [self._render(c, p, folder) for c, p in zip(candidates, latents, strict=True)]

    def _render(self, candidate: Candidate, latents: Path | None, folder: Path) -> Rendered:
        self._note("render", candidate)
        before = self._stood(candidate, latents)
        path = folder / f"{candidate.key}.png"
        value = int(self._score(candidate) * 65535)
        Image.new("RGB", (2, 2), (value // 256, value % 256, 0)).save(path)
        return Rendered(image=path, nfe=50 - 2 * before)

    def score(self, brief: str, images: Sequence[Path]) -> list[Score]:
        if self.scorer_fails:
            return [Score(reason="the scorer is out of order") for _ in images]
        return [self._read(path) for path in images]

    def judge(self, name: str, brief: str, images: Sequence[Path]) -> list[Score]:
        assert name in self.judge_names
        return [Score(value=self._read(path).value, explanation="judged") for path in images]

    def unread(self, prompts: Sequence[str]) -> list[tuple[str, ...]]:
        return [tuple(prompt.split()[self.reads :]) for prompt in prompts]

    def check_brief(self, brief: str) -> list[str]:
        return []

    def _read(self, path: Path) -> Score:
        with Image.open(path) as image:
            red, green, _ = image.getpixel((0, 0))  # type: ignore[misc]
        value = (red * 256 + green) / 65535
        return Score(value=value, correct=value > self.correct_above, explanation="looked at")

    def _score(self, candidate: Candidate) -> float:
        return luck("score", candidate.prompt, candidate.seed)

    def _note(self, verb: str, candidate: Candidate) -> None:
        with self.log.open("a") as log:
            log.write(f"{verb} {candidate.key}\n")
        if self.die_after is not None and len(self.log.read_text().splitlines()) >= self.die_after:
            os.kill(os.getpid(), signal.SIGKILL)


def start(out: Path, budget: str | Budget = "light", **settings: object) -> Path:
    """A run folder for the scripted model."""
    wanted: dict[str, object] = {
        "brief": "a scarlet kitty next to a navy automobile",
        "model": "scripted",
        "scorer": "red and green",
        "judge": ("second",),
        "generation": Generation(guidance=3.0),
        "budget": BUDGETS[budget] if isinstance(budget, str) else budget,
    }
    return run_folder.create(out, RunSettings.model_validate(wanted | settings))


def run_until_drawn(run_dir: Path, log: Path, die_after: int) -> None:
    """Go on with a run in this process, killed once so many candidates were probed or rendered."""
    asyncio.run(run_loop(run_dir, ScriptedTools(log, die_after=die_after), offline()))


def run_until_checkpoint(run_dir: Path, log: Path, number: int) -> None:
    """Go on with a run in this process, killed just before it writes its n-th checkpoint.

    LangGraph writes down what a node said before it writes the checkpoint that takes it in.
    """
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

    write, numbers = AsyncSqliteSaver.aput, itertools.count(1)

    async def die(self: Any, *args: Any) -> Any:
        if next(numbers) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return await write(self, *args)

    with patch.object(AsyncSqliteSaver, "aput", die):
        asyncio.run(run_loop(run_dir, ScriptedTools(log), offline()))
