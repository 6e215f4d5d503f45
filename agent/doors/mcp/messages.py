"""Arguments and replies of the server's tools: small records, so that no answer floods a context.

Texts are cut and rows dropped until an answer has at most about 2,000 tokens; the rest is in the
linked files.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

from pydantic import Field

from promptprobe.agent.doors.mcp.jobs import Job, Status
from promptprobe.agent.doors.replies import MAX_TRIALS, ProbeReply, ProbeRow, TrialSummary
from promptprobe.agent.doors.schemas import OptimizeArguments, ProbeArguments, Request
from promptprobe.agent.result import OptimizationResult, StopReason
from promptprobe.tools.records import Picture, Record, Score, Seed, Spend, Text, Trial, Word

MOST_CHARACTERS = 7500
"""Maximum length of an answer as JSON: about 2,000 tokens."""
SHORT, LONG = 240, 2000
MAX_WAIT = 600


JobId = Field(min_length=1, max_length=80, description="from optimize_prompt or list_runs")
R = TypeVar("R", bound=Record)


# -- arguments ---------------------------------------------------------------------------------


class OptimizeCall(OptimizeArguments):
    """A brief, how to search, and how long to wait for it."""

    wait_seconds: float = Field(
        default=45,
        ge=0,
        le=MAX_WAIT,
        description="how long this call waits; after that the job continues, and get_optimization "
        "with the returned job id gives its result",
    )


class GetOptimization(Request):
    """A job to wait for; one that was cut off is resumed."""

    job_id: str = JobId
    wait_seconds: float = Field(
        default=45, ge=0, le=MAX_WAIT, description="how long to wait for its end"
    )


class CancelOptimization(Request):
    """A job to end."""

    job_id: str = JobId


class ListRuns(Request):
    """How many runs to list."""

    limit: int = Field(default=10, ge=1, le=20, description="how many of the newest to list")


class ProbeCall(ProbeArguments):
    """Prompts x seeds to look at after a few denoising steps."""

    heatmaps: bool = Field(
        default=False, description="link a picture of the early previews and each word's attention"
    )


class RenderImage(Request):
    """A picture to draw in full."""

    prompt: Text
    seed: Seed = 0
    generation: Picture = Field(default=Picture(), description="how the picture is made")


class ScoreImage(Request):
    """A picture of this server to be scored against a brief."""

    brief: Text = Field(description="what the picture should show")
    image: Text = Field(description="link of a picture from a result, promptprobe://png/...")


class ListModels(Request):
    """No arguments."""


# -- replies -----------------------------------------------------------------------------------


class Optimization(Record):
    """The state of a job and what it has found. The best picture is shown and linked."""

    job_id: str
    status: Literal["working"] | Status = Field(
        description="unfinished: request it again to resume it"
    )
    message: str = Field(description="what to know or do next")
    brief: str
    best: TrialSummary | None = Field(description="the best so far; null: nothing is drawn yet")
    initial: TrialSummary | None = Field(description="the brief itself with the first seed")
    trials: tuple[TrialSummary, ...] = Field(description="the best rendered: learn from them")
    spent: Spend | None
    stop_reason: StopReason | None
    scorer: str | None = Field(description="what selects")
    warnings: tuple[str, ...]

    @classmethod
    def of(
        cls, name: str, job: Job, working: bool, message: str, found: OptimizationResult | None
    ) -> Optimization:
        """The reply about a job, with the contents of its run folder, if any."""
        done = job.status == "done" and found is not None
        return fitted(
            cls(
                job_id=name,
                status="working" if working else job.status,
                message=message,
                brief=cut(job.request.brief, SHORT),
                best=summary(found.best, LONG) if found else None,
                initial=summary(found.initial) if found else None,
                trials=tuple(map(summary, found.top(MAX_TRIALS))) if found else (),
                spent=found.spent if found else None,
                stop_reason=found.stop_reason if done and found else None,
                scorer=found.scorer if found else None,
                warnings=tuple(cut(one, SHORT) for one in found.warnings) if found else (),
            )
        )


class ProbeSummary(Record):
    """A candidate after its first steps."""

    prompt: str
    seed: int
    predicted: float | None = Field(description="predicted score; null: see reason")
    low: float | None = Field(description="lower end of the 90% interval; null: uncalibrated")
    high: float | None
    words: tuple[Word, ...] = Field(description="what the first steps predict for each word")
    explanation: str
    reason: str = Field(description="why nothing is predicted")

    @classmethod
    def of(cls, row: ProbeRow) -> ProbeSummary:
        """The summary of a row."""
        texts = {
            name: cut(getattr(row, name), SHORT) for name in ("prompt", "explanation", "reason")
        }
        numbers = {name: getattr(row, name) for name in ("seed", "predicted", "low", "high")}
        return cls(**texts, **numbers, words=row.words[:8])


class Probes(Record):
    """Candidates, the most promising first; no picture was rendered."""

    brief: str
    basis: Literal["probe", "preview"] | None = Field(
        description="a trained probe, or only the score of an early preview, which is uncalibrated"
    )
    candidates: tuple[ProbeSummary, ...] = Field(description="the most promising candidates")
    looked_at: int = Field(description="number of candidates in all")
    steps: int = Field(description="denoising steps before the look")
    of: int = Field(description="denoising steps of a full render")
    spent: Spend
    warnings: tuple[str, ...]

    @classmethod
    def from_reply(cls, reply: ProbeReply) -> Probes:
        """The reply about probed candidates."""
        return fitted(
            cls(
                brief=cut(reply.brief, SHORT),
                basis=reply.basis,
                candidates=tuple(map(ProbeSummary.of, reply.candidates[:24])),
                looked_at=len(reply.candidates),
                steps=reply.steps,
                of=reply.of,
                spent=reply.spent,
                warnings=tuple(cut(one, SHORT) for one in reply.warnings[:8]),
            )
        )


class RunSummary(Record):
    """A job in one line."""

    job_id: str
    brief: str
    status: Literal["working"] | Status
    best_score: float | None
    error: str


class Runs(Record):
    """The newest jobs of this server."""

    runs: tuple[RunSummary, ...]


class Drawn(Record):
    """A finished picture, shown and linked."""

    image: str | None = Field(description="its link, for score_image; null: see reason")
    reason: str
    nfe: int = Field(description="denoiser evaluations that it took")


class Scored(Record):
    """The score of a picture."""

    score: Score


class ModelSummary(Record):
    """A model that calls may use."""

    name: str
    draws: str
    default: bool


class Models(Record):
    """The models of this server."""

    models: tuple[ModelSummary, ...]
    scorer: str
    judges: tuple[str, ...] = Field(description="judges that only grade; none: a model's own")
    llm: str | None = Field(description="LLM that proposes rewrites if you pass none")
    largest_budget: dict[str, Any]


def summary(trial: Trial, prompt: int = SHORT) -> TrialSummary:
    """The summary of a trial, with at most `prompt` characters of its prompt."""
    whole = TrialSummary.of(trial)
    shorter = {"prompt": cut(whole.prompt, prompt), "explanation": cut(whole.explanation, SHORT)}
    return whole.model_copy(update=shorter)


def cut(text: str, most: int) -> str:
    """The text, cut off after `most` characters."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def fitted(record: R) -> R:
    """The record with rows dropped from the end of its lists until it fits."""
    while len(record.model_dump_json()) > MOST_CHARACTERS:
        rows = {name: value for name, value in record if isinstance(value, tuple) and value}
        if not rows:
            break
        longest = max(rows, key=lambda name: len(str(rows[name])))
        record = record.model_copy(update={longest: rows[longest][:-1]})
    return record
