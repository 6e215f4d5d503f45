"""The result of a run: the best and the initial trial, all others, its cost and why it ended."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path
from typing import Any

from pydantic import Field

from promptprobe.agent.events import StopReason
from promptprobe.agent.ledger import Ledger
from promptprobe.agent.run_folder import REPORT, SHEET, RunSettings, read, spoken
from promptprobe.agent.search.policy import best_of, ranked
from promptprobe.agent.search.trust import Trust, trust_in
from promptprobe.tools.records import Generation, Record, Spend, Trial

__all__ = ["OptimizationResult", "StopReason", "read_result"]


class RewriteCounts(Record):
    """How many rewrites a run was offered, and how many it accepted and refused."""

    offered: int = 0
    accepted: int = 0
    refused: int = Field(default=0, description="because of what they drop, add or repeat")


class OptimizationResult(Record):
    """The outcome of `optimize_prompt`."""

    brief: str
    best: Trial = Field(description="the initial trial if no other scored higher")
    initial: Trial = Field(description="the brief itself with the first seed")
    trials: tuple[Trial, ...] = Field(description="every candidate probed, in order")
    spent: Spend
    rewrites: RewriteCounts = RewriteCounts()
    stop_reason: StopReason
    trust: Trust = Field(default=Trust(), description="predictions compared with scores")
    warnings: tuple[str, ...] = Field(default=(), description="what did not go as requested")
    run_dir: Path
    model: str
    scorer: str = Field(description="what selected")
    judges: tuple[str, ...] = Field(
        default=(), description="what only graded; each trial has the grades in `judged`"
    )
    pipeline: str = Field(description="class name of the model's diffusers pipeline")
    generation: Generation = Field(description="the settings used, defaults filled in")

    def top(self, n: int) -> tuple[Trial, ...]:
        """The n best rendered trials, in the order of `ranked`."""
        return tuple(ranked(self.trials)[:n])

    @property
    def contact_sheet(self) -> Path:
        """A picture of the whole run, drawn when it ended: initial, best, and all trials."""
        return self.run_dir / SHEET

    @property
    def report(self) -> Path:
        """The page with everything about the run, written when it ended."""
        return self.run_dir / REPORT

    def draw_contact_sheet(self) -> Path:
        """Draw `contact_sheet` (again). Raises OSError if it cannot be written."""
        from promptprobe.tools.pictures.contact_sheet import save_contact_sheet

        return save_contact_sheet(
            self.contact_sheet, self.brief, self.initial, self.best, self.trials
        )

    def snippet(self) -> str:
        """Plain diffusers code that makes the best picture again."""
        from promptprobe.tools.pictures.png import snippet

        return snippet(self.best.candidate, self.generation, self.model, self.pipeline)

    def summary(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        return {
            "brief": self.brief,
            "best": _row(self.best),
            "initial": _row(self.initial),
            "spent": self.spent.model_dump(mode="json"),
            "rewrites": self.rewrites.model_dump(),
            "stop_reason": self.stop_reason,
            "scorer": self.scorer,
            "judges": list(self.judges),
            "trust": self.trust.model_dump(mode="json"),
            "run_dir": str(self.run_dir),
            "warnings": list(self.warnings),
            "trials": [{"round": trial.round, **_row(trial)} for trial in self.trials],
        }

    def __str__(self) -> str:
        """Five lines: brief, best prompt, score, cost, and where the pictures are."""
        from promptprobe.agent.doors.display import plain

        best, spent = self.best, self.spent
        lines = (
            f"brief    {self.brief}",
            f"prompt   {best.candidate.prompt}",
            f"best     {_shown(best)} with seed {best.candidate.seed}; "
            f"{_shown(self.initial)} for the brief with the first seed",
            f"cost     {spent.nfe} NFE, {spent.seconds:.1f} s, {spent.llm_calls} LLM calls; "
            f"stopped: {self.stop_reason}",
            f"picture  {best.image} (all: {self.contact_sheet})",
        )
        return "\n".join(plain(" ".join(line.splitlines()), 400) for line in lines)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """`str` in IPython: a notebook stores it as text next to the HTML."""
        printer.text(str(self))

    def _repr_html_(self) -> str:
        """Initial next to best, for a notebook; all text is escaped."""
        pictures = "".join(
            _figure(name, trial) for name, trial in (("initial", self.initial), ("best", self.best))
        )
        spent = (
            f"{self.spent.nfe} NFE, {self.spent.seconds:.1f} s, {self.spent.llm_calls} LLM calls"
        )
        return (
            f"<div><p><b>{escape(self.brief)}</b></p>"
            f"<div style='display:flex;gap:1em'>{pictures}</div>"
            f"<p>{escape(self.stop_reason)}; {spent}; {escape(str(self.run_dir))}</p></div>"
        )


def read_result(run_dir: Path, ledger: Ledger | None = None) -> OptimizationResult:
    """The result of a run from its folder; an unfinished run counts as cancelled.

    Raises:
        ValueError: this is not a run folder, it is damaged, or nothing has been rendered in it.
    """
    run_dir = run_dir.resolve()
    settings: RunSettings = read(run_dir)
    ledger = ledger or Ledger(run_dir)
    trials, ended = ledger.trials(), ledger.finished
    best = best_of(trials)
    if best is None:
        reasons = "; ".join(ledger.warnings) or "it ended before its first picture"
        raise ValueError(f"nothing was rendered in {run_dir}: {reasons}")
    return OptimizationResult(
        brief=settings.brief,
        best=best,
        initial=trials[0],
        trials=trials,
        spent=ledger.spent,
        rewrites=_counted(ledger),
        stop_reason=ended.stop_reason if ended else "cancelled",
        trust=ended.trust if ended else trust_in(trials, {}, {}),
        warnings=ledger.warnings,
        run_dir=run_dir,
        model=settings.model,
        scorer=spoken(settings.scorer),
        judges=tuple(map(spoken, settings.judge)),
        pipeline=settings.pipeline,
        generation=settings.generation,
    )


def _counted(ledger: Ledger) -> RewriteCounts:
    declined = sum(len(line.refused) for line in ledger.reviewed)
    accepted = sum(len(line.accepted) for line in ledger.proposed) - declined
    refused = sum(len(line.refused) for line in ledger.proposed) + declined
    return RewriteCounts(offered=accepted + refused, accepted=accepted, refused=refused)


def _row(trial: Trial) -> dict[str, Any]:
    return {
        "prompt": trial.candidate.prompt,
        "seed": trial.candidate.seed,
        "score": trial.value,
        "judged": {name: grade.value for name, grade in trial.judged.items()},
        "predicted": trial.predicted,
        "image": str(trial.image) if trial.image else None,
    }


def _shown(trial: Trial) -> str:
    return "unscored" if trial.value is None else f"score {trial.value:.2f}"


def _figure(name: str, trial: Trial) -> str:
    from promptprobe.tools.pictures.png import thumbnail

    score, picture = _shown(trial), ""
    if trial.image and trial.image.exists():
        data = base64.b64encode(thumbnail(trial.image, 256)).decode()
        picture = f"<img src='data:image/png;base64,{data}' alt='{escape(trial.candidate.prompt)}'>"
    caption = f"{name}: {trial.candidate.prompt} (seed {trial.candidate.seed}, {score})"
    return f"<figure>{picture}<figcaption>{escape(caption)}</figcaption></figure>"
