"""The interface of the agent's tools: candidates in, records out, files by path.

The agent knows only this file, so the loop needs no torch, neither to import nor to be tested.
Every method may block for long, so the loop calls it in a thread. Runs may share one `Tools`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Protocol

from pydantic import Field

from promptprobe.tools.records import Candidate, Generation, Prediction, Record, Score

Notices = Annotated[
    tuple[str, ...],
    Field(description="what else happened in this call; given with its first candidate"),
]


class Probed(Record):
    """What the first steps of a candidate predict, and the state to continue from."""

    step: int = Field(ge=1, description="denoising steps made so far")
    prediction: Prediction | None = Field(description="None: `reason` says why")
    reason: str = Field(default="", description="why there is no prediction")
    latents: Path = Field(description="state after the probed steps")
    nfe: int = Field(ge=0, description="denoiser evaluations this took, excluding earlier looks")
    seconds: float = Field(default=0, ge=0, description="duration of the look, excluding the steps")
    cut: tuple[str, ...] = Field(
        default=(), description="words beyond the text encoder's token limit"
    )
    heatmap: Path | None = Field(
        default=None, description="picture of each word's attention, if requested"
    )
    preview: Path | None = Field(
        default=None, description="small picture of the decoded x0, if requested"
    )
    notices: Notices = ()


class Rendered(Record):
    """A finished image, or why there is none to score."""

    image: Path | None
    reason: str = Field(default="", description="why the image must not be scored; empty if it may")
    nfe: int = Field(ge=0, description="denoiser evaluations this took, excluding the probe's")
    notices: Notices = ()

    @property
    def scorable(self) -> Path | None:
        """The image, if it may be scored."""
        return None if self.reason else self.image


class Tools(Protocol):
    """The agent's tools. Results are in the order of the inputs."""

    @property
    def model_name(self) -> str:
        """The model's name in reports: a built-in model's name, a folder or a hub id."""

    @property
    def pipeline_name(self) -> str:
        """Class name of its diffusers pipeline."""

    @property
    def settings_used(self) -> Generation:
        """The generation settings with the model's defaults filled in."""

    @property
    def scorer_name(self) -> str:
        """The scorer that selects."""

    @property
    def judge_names(self) -> tuple[str, ...]:
        """The judges that only grade; there may be none."""

    @property
    def probe_steps(self) -> int:
        """The default number of steps before a look, out of `settings_used.steps`."""

    @property
    def ranks(self) -> Mapping[int, float]:
        """Share of a prompt's pairs of seeds that a look puts in the right order, by number of
        steps, as far as measured."""

    @property
    def preview_ranks(self) -> Mapping[int, float]:
        """The same share for looks at previews alone."""

    @property
    def batch_size(self) -> int:
        """Number of candidates per call that fills the device; may change."""

    @property
    def nfe_per_render(self) -> int:
        """Denoiser evaluations of a full render."""

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
        """Bring each candidate to a step and predict its score; its latents go to `folder`.

        Args:
            heatmaps: folder for pictures of each word's attention, if wanted.
            step: denoising steps in all; None: `probe_steps`.
            latents: latents of an earlier look at each candidate to continue from (None: start
                from noise); if empty, everything starts from noise.
            previews_only: do not use the probe.
            previews: folder for a small picture of each decoded x0, if wanted.
        """

    def render(
        self, candidates: Sequence[Candidate], latents: Sequence[Path | None], folder: Path
    ) -> list[Rendered]:
        """Finish each candidate from its latents (None: from noise) as a PNG in `folder`."""

    def score(self, brief: str, images: Sequence[Path]) -> list[Score]:
        """Score finished images against the brief; a failure gives a reason, never a zero."""

    def judge(self, name: str, brief: str, images: Sequence[Path]) -> list[Score]:
        """Grade finished images by one of `judge_names`, which never select."""

    def unread(self, prompts: Sequence[str]) -> list[tuple[str, ...]]:
        """For each prompt, the words beyond the text encoder's token limit."""

    def check_brief(self, brief: str) -> list[str]:
        """Warnings about a brief, such as unknown words.

        Raises:
            ValueError: the model can draw nothing in it, or a judge cannot judge it.
        """
