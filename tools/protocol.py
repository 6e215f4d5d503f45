"""What the agent may ask of its tools: candidates in, records out, files named by path.

The agent knows only this file, so the loop needs no torch: not to import, not to be tested.
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
    Field(description="what else happened to the candidates of a call; with the first of them"),
]


class Probed(Record):
    """What the first steps of a candidate predict, and the state to continue from."""

    step: int = Field(ge=1, description="denoising steps made so far")
    prediction: Prediction | None = Field(description="None: not judged early; `reason` says why")
    reason: str = Field(default="", description="why there is no prediction")
    latents: Path = Field(description="state after the probed steps")
    nfe: int = Field(ge=0, description="denoiser evaluations this took, earlier looks' apart")
    seconds: float = Field(default=0, ge=0, description="that the look itself took, steps apart")
    cut: tuple[str, ...] = Field(
        default=(), description="words beyond the text encoder's token limit"
    )
    heatmap: Path | None = Field(
        default=None, description="picture of each word's attention, if asked for"
    )
    preview: Path | None = Field(
        default=None, description="small picture of the decoded x0, if asked for"
    )
    notices: Notices = ()


class Rendered(Record):
    """A finished image, or why there is none to score."""

    image: Path | None
    reason: str = Field(default="", description="not empty: the image must not be scored, and why")
    nfe: int = Field(ge=0, description="denoiser evaluations this took, the probe's apart")
    notices: Notices = ()

    @property
    def scorable(self) -> Path | None:
        """The image, if it may be scored."""
        return None if self.reason else self.image


class Tools(Protocol):
    """The agent's hands. Lists come back in the order of what was given."""

    @property
    def model_name(self) -> str:
        """How the model is called in reports: a built-in one's name, a folder, a hub id."""

    @property
    def pipeline_name(self) -> str:
        """Class name of its diffusers pipeline."""

    @property
    def settings_used(self) -> Generation:
        """The generation settings with the model's defaults filled in."""

    @property
    def scorer_name(self) -> str:
        """Who selects."""

    @property
    def judge_names(self) -> tuple[str, ...]:
        """Who only grades; there may be none."""

    @property
    def probe_steps(self) -> int:
        """After how many of `settings_used.steps` a look comes that nobody planned."""

    @property
    def ranks(self) -> Mapping[int, float]:
        """How many of a prompt's pairs of seeds a look after so many steps puts in the right order,
        where that was measured."""

    @property
    def preview_ranks(self) -> Mapping[int, float]:
        """The same of looks at previews alone."""

    @property
    def batch_size(self) -> int:
        """Candidates that a call should have, so that the device is full; may change."""

    @property
    def nfe_per_render(self) -> int:
        """Denoiser evaluations of an image from noise to end."""

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
            heatmaps: folder for a picture of each word's attention, where wanted.
            step: denoising steps in all; None: `probe_steps`.
            latents: of an earlier look at each candidate, to go on from (None: from noise); none
                at all: everything starts from noise.
            previews_only: no probe is asked.
            previews: folder for a small picture of each decoded x0, where wanted.
        """

    def render(
        self, candidates: Sequence[Candidate], latents: Sequence[Path | None], folder: Path
    ) -> list[Rendered]:
        """Finish each candidate from its latents (None: from noise) as a PNG in `folder`."""

    def score(self, brief: str, images: Sequence[Path]) -> list[Score]:
        """Judge finished images against the brief; a failure is a reason, never a zero."""

    def judge(self, name: str, brief: str, images: Sequence[Path]) -> list[Score]:
        """The same by one of `judge_names`, which never select."""

    def unread(self, prompts: Sequence[str]) -> list[tuple[str, ...]]:
        """Per prompt, the words beyond the text encoder's token limit."""

    def check_brief(self, brief: str) -> list[str]:
        """Warnings about a brief, such as unknown words.

        Raises:
            ValueError: when the model can draw nothing of it, or who is to judge it cannot.
        """
