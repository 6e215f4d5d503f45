"""The agent's tools: probe, render and score on a loaded model.

Tensors end here: inputs and outputs are records and paths. A candidate's numbers do not depend on
its batch, and a survivor continues from its own latents, so that the probe's steps are never paid
twice. Safe to use from several threads: each batch takes a turn (device.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import torch
from PIL import Image

from promptprobe.probe.families.family import CallArguments, Settings, State, StateError
from promptprobe.probe.model.card import ProbeError
from promptprobe.probe.trace import traces_from
from promptprobe.tools.device import DEVICE, Batches
from promptprobe.tools.models.model import Model
from promptprobe.tools.pictures.attention import save_attention
from promptprobe.tools.pictures.embedded import save_previews
from promptprobe.tools.pictures.heatmaps import save_heatmaps
from promptprobe.tools.pictures.png import save_png
from promptprobe.tools.predictions import (
    NOT_FINITE,
    LoadedProbe,
    focused_words,
    load_matching_probe,
    predict,
)
from promptprobe.tools.protocol import Probed, Rendered
from promptprobe.tools.records import Candidate, Generation, Score
from promptprobe.tools.scorers.scorer import Scorer

PIXELS_AT_ONCE = {"cpu": 2**19, "cuda": 2**22}
"""Pixels of a first batch. A CPU gets few: there, running out of memory kills the process."""
MOST_AT_ONCE = {"cpu": 32, "cuda": 64}
PROBED_SHARE = 5
"""By default a look comes after 1 / PROBED_SHARE of the steps."""
SHOWN_WORDS = 12
BLACKED_OUT = "the model's safety checker blacked this image out"

Job = tuple[Candidate, Path | None]
Done = TypeVar("Done", Probed, Rendered)
Work = Callable[[Sequence[Candidate], State], list[Done]]


@dataclass(frozen=True)
class LookSettings:
    """The arguments of a look."""

    brief: str
    probe: LoadedProbe | None
    step: int
    folder: Path
    heatmaps: Path | None
    previews: Path | None


class Toolbox:
    """`Tools` on one model with one scorer; tools/protocol.py describes the verbs.

    Args:
        model: from `open_model`.
        scorer: judges previews and finished images, and so selects.
        judges: grade finished images and never select; their names differ.
        probe: folder of a trained probe for this model, if there is one. A probe that is broken
            or was made for other settings is not used: `notes` says why, and previews replace it.

    Raises:
        ValueError: steps or size that the model cannot work with.
    """

    def __init__(
        self,
        model: Model,
        scorer: Scorer,
        judges: Sequence[Scorer] = (),
        probe: Path | None = None,
    ) -> None:
        self._model, self._family = model, model.family
        self._scorer, self._judges = scorer, {judge.name: judge for judge in judges}
        self._settings = settings_of(model.generation)
        self._family.draw_noise([0], self._settings)  # make impossible settings fail early
        self._device = str(model.generation.device)
        kind = "cuda" if self._device.startswith("cuda") else "cpu"
        image, most = self._settings.height * self._settings.width, MOST_AT_ONCE[kind]
        first = max(1, min(most, PIXELS_AT_ONCE[kind] // image))
        self._batches = Batches(first, most if kind == "cuda" else first)
        self.notes: list[str] = []
        """What the user should know about this model and its probe, for any brief."""
        self._probe = self._open_probe(probe) if probe else None

    @property
    def model_name(self) -> str:
        return self._model.name

    @property
    def pipeline_name(self) -> str:
        return self._model.pipeline

    @property
    def settings_used(self) -> Generation:
        return self._model.generation

    @property
    def scorer_name(self) -> str:
        return self._scorer.name

    @property
    def judge_names(self) -> tuple[str, ...]:
        return tuple(self._judges)

    @property
    def probe_steps(self) -> int:
        share = max(1, round(self._settings.steps / PROBED_SHARE))
        known = self._probe.windows if self._probe else ()
        return min(known, key=lambda step: abs(step - share), default=share)

    @property
    def ranks(self) -> Mapping[int, float]:
        return self._probe.ranks if self._probe else {}

    @property
    def preview_ranks(self) -> Mapping[int, float]:
        return self._probe.preview_ranks if self._probe else {}

    @property
    def batch_size(self) -> int:
        return self._batches.size

    @cached_property
    def nfe_per_render(self) -> int:
        return self._nfe(0, self._settings.steps)

    # -- the verbs -------------------------------------------------------------------------

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
        for used in filter(None, (folder, heatmaps, previews)):
            used.mkdir(parents=True, exist_ok=True)
        probe = None if previews_only else self._probe
        look = LookSettings(brief, probe, step or self.probe_steps, folder, heatmaps, previews)
        starts = latents or [None] * len(candidates)
        return self._continued(
            list(zip(candidates, starts, strict=True)),
            lambda batch, start: self._looked(look, batch, start),
        )

    def render(
        self, candidates: Sequence[Candidate], latents: Sequence[Path | None], folder: Path
    ) -> list[Rendered]:
        folder.mkdir(parents=True, exist_ok=True)
        return self._continued(
            list(zip(candidates, latents, strict=True)),
            lambda batch, start: self._rendered(batch, start, folder),
        )

    def score(self, brief: str, images: Sequence[Path]) -> list[Score]:
        with DEVICE:
            return self._scorer.of_files(brief, images)

    def judge(self, name: str, brief: str, images: Sequence[Path]) -> list[Score]:
        with DEVICE:
            return self._judges[name].of_files(brief, images)

    def unread(self, prompts: Sequence[str]) -> list[tuple[str, ...]]:
        if not prompts:
            return []
        unique = list(dict.fromkeys(prompts))
        with DEVICE:
            cut = self._family.encode(unique, self._settings).cut
        by_prompt = dict(zip(unique, cut, strict=True))
        return [by_prompt[prompt] for prompt in prompts]

    def check_brief(self, brief: str) -> list[str]:
        """Warnings about the model, its probe, unknown words, and words beyond the token limit.

        Raises:
            ValueError: a built-in model can draw nothing in it (the message says what it knows),
                or the scorer or a judge gives no score for an image of noise.
        """
        warnings = list(self.notes)
        for judge in (self._scorer, *self._judges.values()):
            with DEVICE:  # `check` and `unread` change the state of a shared tokenizer
                judge.check(brief)
                for part in judge.parts or (judge,):
                    if unread := list(part.unread(brief)):
                        warnings.append(f"the judge {part.name} does not read: {_listed(unread)}")
        if own := self._model.built_in:
            warnings += own.check_brief(brief)
        if cut := self.unread([brief])[0]:
            warnings.append(
                f"the brief is longer than the model's text encoder reads; cut off: {_listed(cut)}"
            )
        return warnings

    # -- how they work ---------------------------------------------------------------------

    def _open_probe(self, folder: Path) -> LoadedProbe | None:
        try:
            found = load_matching_probe(
                folder, self._family, self._settings, self._scorer, self._device
            )
        except ProbeError as error:
            self.notes.append(
                f"no probe fits: {error}. Candidates are judged by previews instead, uncalibrated"
            )
            return None
        self.notes += filter(None, [found.note])
        return found

    def _continued(self, jobs: Sequence[Job], work: Work[Done]) -> list[Done]:
        """Work on candidates from their own states; results in order, notices with the first."""
        found: dict[int, Done] = {}
        notices: list[str] = []
        # A batch is at one step, so candidates that start and that continue are separated.
        for continues in (False, True):
            places = [at for at, (_, path) in enumerate(jobs) if (path is not None) == continues]
            done = self._batches.map(
                lambda batch: self._from_start(batch, work, notices),
                [jobs[at] for at in places],
                notices.append,
            )
            found |= zip(places, done, strict=True)
        if notices:
            found[0] = found[0].model_copy(update={"notices": tuple(dict.fromkeys(notices))})
        return [found[at] for at in range(len(jobs))]

    def _from_start(self, batch: Sequence[Job], work: Work[Done], notices: list[str]) -> list[Done]:
        try:
            start = self._start(batch)
        except StateError as error:
            if len(batch) > 1:
                return [found for job in batch for found in self._from_start([job], work, notices)]
            notices.append(f"latents cannot be used, so an image is drawn from the start: {error}")
            return self._from_start([(batch[0][0], None)], work, notices)
        return work([candidate for candidate, _ in batch], start)

    def _start(self, batch: Sequence[Job]) -> State:
        """A batch's start: noise, or its saved latents. Raises StateError if those do not fit."""
        paths = [path for _, path in batch if path is not None]
        if paths:
            return self._family.load_state(paths, self._settings)
        return self._family.draw_noise([job.seed for job, _ in batch], self._settings)

    def _looked(self, look: LookSettings, batch: Sequence[Candidate], start: State) -> list[Probed]:
        prompts = [candidate.prompt for candidate in batch]
        conditioning = self._family.encode(prompts, self._settings)
        traces, state = traces_from(self._family, conditioning, start, self._settings, (look.step,))
        trace = traces[look.step]
        names = [f"{one.key}-{look.step}" for one in batch]
        paths = [look.folder / f"{name}.safetensors" for name in names]
        self._family.save_state(state, self._settings, paths)
        began = time.monotonic()
        views = predict(
            look.probe, self._family, self._scorer, look.brief, prompts, trace, look.step
        )
        each = (time.monotonic() - began) / len(batch)
        previews = save_previews(look.previews, names, [view.preview for view in views])
        save_attention(look.previews, names, trace)
        heatmaps: Sequence[Path | None] = [None] * len(batch)
        if look.heatmaps is not None:
            after = f"after {look.step} of {self._settings.steps} steps"
            words = focused_words(trace)
            heatmaps = save_heatmaps(look.heatmaps, batch, trace, views, words, after)
        nfe = self._nfe(start.step, look.step)
        found = zip(views, paths, conditioning.cut, heatmaps, previews, strict=True)
        return [
            Probed(
                step=look.step,
                prediction=view.prediction,
                reason=view.reason,
                latents=path,
                nfe=nfe,
                seconds=each,
                cut=cut,
                heatmap=heatmap,
                preview=preview,
            )
            for view, path, cut, heatmap, preview in found
        ]

    def _rendered(self, batch: Sequence[Candidate], start: State, folder: Path) -> list[Rendered]:
        conditioning = self._family.encode([job.prompt for job in batch], self._settings)
        end = self._family.denoise(start, conditioning, self._settings, self._settings.steps)
        finite = torch.isfinite(end.latents).flatten(1).all(1)
        latents = torch.where(finite[:, None, None, None], end.latents, 0)
        images, flagged = self._family.decode_checked(latents)
        nfe = self._nfe(start.step, self._settings.steps)
        rendered = []
        for job, pixels, flag, fine in zip(batch, images, flagged, finite.tolist(), strict=True):
            if not fine:
                rendered.append(Rendered(image=None, reason=NOT_FINITE, nfe=nfe))
                continue
            path = save_png(
                Image.fromarray(pixels),
                folder / f"{job.key}.png",
                job,
                self.settings_used,
                self._family.scheduler_name,
                self.model_name,
                end.scheduler.config,
            )
            rendered.append(Rendered(image=path, reason=BLACKED_OUT if flag else "", nfe=nfe))
        return rendered

    def _nfe(self, first: int, until: int) -> int:
        return self._family.nfe(self._settings, first, until)


def settings_of(generation: Generation) -> Settings:
    """Settings for the tensor code. Raises ValueError if a default is not filled in."""
    if generation.guidance is None or generation.height is None or generation.width is None:
        raise ValueError(f"expected the model's defaults to be filled in, got {generation!r}")
    return Settings(
        steps=generation.steps,
        guidance=generation.guidance,
        height=generation.height,
        width=generation.width,
        negative_prompt=generation.negative_prompt or "",
        extra=CallArguments(**(generation.extra.model_dump() if generation.extra else {})),
    )


def _listed(words: Sequence[str]) -> str:
    shown = ", ".join(word[:40] for word in words[:SHOWN_WORDS])
    more = len(words) - SHOWN_WORDS
    return f"{shown} and {more} more" if more > 0 else shown
