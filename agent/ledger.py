"""trials.jsonl: everything that a run has paid for, written before it is used.

One JSON line per LLM reply and per stage of a candidate, keyed by content and flushed to disk
(fsync) before anything reads it back. Nodes look here first, so a killed run repeats at most what
was in flight. Paths are stored relative to the run folder, which can therefore be moved. Two
processes must not write at once: `run_folder.locked` sees to that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from promptprobe.agent.events import Refusal, StopReason
from promptprobe.agent.search.trust import Trust
from promptprobe.probe.files import JsonLines
from promptprobe.tools.protocol import Probed, Rendered
from promptprobe.tools.records import Candidate, Look, Record, Score, Spend, Trial

FILE = "trials.jsonl"


class Line(Record):
    """What every line has."""

    at: float = Field(default=0.0, description="seconds into the run when this was written")


class ReplyLine(Line):
    kind: Literal["reply"] = "reply"
    question: str = Field(description="key of the question")
    text: str | None = Field(description="None: no usable reply")
    problem: str = Field(
        default="", description="why there is no reply, or what was left out of it"
    )
    calls: int = Field(default=1, ge=0, description="requests that it took")
    tokens: int = Field(
        default=0, ge=0, description="of prompts and completions, as the endpoint counts them"
    )
    usd: float = Field(default=0.0, ge=0, description="price of the tokens, if prices were given")


class ProposedLine(Line):
    """The rewrites offered in a round: which were accepted and which refused."""

    kind: Literal["proposed"] = "proposed"
    round: int
    accepted: tuple[str, ...]
    refused: tuple[Refusal, ...]


class ApprovedLine(Line):
    """A person's answer about a round's new prompts."""

    kind: Literal["approved"] = "approved"
    round: int
    prompts: tuple[str, ...] = Field(description="all prompts the round tries, edits included")
    refused: tuple[Refusal, ...] = Field(description="vetoed, or edited into something else")


class ChosenLine(Line):
    """The candidates that a person kept after a rung."""

    kind: Literal["chosen"] = "chosen"
    round: int
    step: int
    candidates: tuple[Candidate, ...] | None = Field(description="None: the plan's choice")


class StageLine(Line):
    """One stage of a candidate."""

    round: int = 0
    candidate: Candidate
    seconds: float = Field(default=0, ge=0, description="its share of the call's duration")


class ProbedLine(StageLine):
    kind: Literal["probed"] = "probed"
    probed: Probed


class RenderedLine(StageLine):
    kind: Literal["rendered"] = "rendered"
    rendered: Rendered


class ScoredLine(StageLine):
    kind: Literal["scored"] = "scored"
    score: Score


class GradedLine(StageLine):
    kind: Literal["graded"] = "graded"
    judge: str = Field(description="a judge that only grades and never selects")
    score: Score


class WarningLine(Line):
    kind: Literal["warning"] = "warning"
    message: str


class FinishedLine(Line):
    kind: Literal["finished"] = "finished"
    stop_reason: StopReason
    trust: Trust = Field(description="predictions compared with scores")


AnyLine = Annotated[
    ReplyLine
    | ProposedLine
    | ApprovedLine
    | ChosenLine
    | ProbedLine
    | RenderedLine
    | ScoredLine
    | GradedLine
    | WarningLine
    | FinishedLine,
    Field(discriminator="kind"),
]
_LINES: TypeAdapter[AnyLine] = TypeAdapter(AnyLine)


class Ledger:
    """The lines of one run folder, on disk and indexed by key in memory."""

    def __init__(self, run_dir: Path) -> None:
        """Read the existing lines; a last line that was cut off mid-write is dropped.

        The file itself is not touched until there is something to write, so a reader may open it
        while the run goes on.

        Raises:
            ValueError: a line before the last is damaged.
        """
        self.run_dir = run_dir
        self._file = JsonLines(run_dir / FILE)
        self.lines: list[AnyLine] = []
        self._index: dict[tuple[str, str], AnyLine] = {}
        self._stages: dict[str, dict[tuple[str, str], StageLine]] = defaultdict(dict)
        for number, text in enumerate(self._file.found, 1):
            self._remember(self._read(number, text))

    def write(self, lines: Sequence[AnyLine]) -> None:
        """Append lines in one write and wait until they are on disk.

        Raises:
            OSError: they cannot be written, for example because the disk is full. A partial write
                is cut off before the next one.
        """
        if not lines:
            return
        self._file.append(_dump(line, self.run_dir) for line in lines)
        for line in lines:
            self._remember(line)

    # -- look-ups ------------------------------------------------------------------------------

    def reply(self, question: str) -> ReplyLine | None:
        """The answer to a question; a failure does not count, so the question is asked again."""
        line: ReplyLine | None = self._find("reply", question)
        return line if line and line.text is not None else None

    def approved(self, round: int) -> ApprovedLine | None:
        """A person's answer about a round's prompts, if one was asked for."""
        return self._find("approved", str(round))

    def chosen(self, round: int, step: int) -> ChosenLine | None:
        """The candidates that a person kept after a rung, if one was asked."""
        return self._find("chosen", f"{round}-{step}")

    def probed(self, candidate: Candidate, step: int) -> Probed | None:
        line = self._find("probed", f"{candidate.key}-{step}")
        return line.probed if line else None

    def looks(self, candidate: Candidate) -> tuple[Probed, ...]:
        """All looks at a candidate, in the order of their steps."""
        found = (line.probed for line in self._stages.get(candidate.key, {}).values()
                 if isinstance(line, ProbedLine))  # fmt: skip
        return tuple(sorted(found, key=lambda probed: probed.step))

    def rendered(self, candidate: Candidate) -> Rendered | None:
        """The candidate's render; also None if its image file is gone."""
        line = self._find("rendered", candidate.key)
        lost = line and line.rendered.image and not line.rendered.image.exists()
        return line.rendered if line and not lost else None

    def scored(self, candidate: Candidate) -> ScoredLine | None:
        return self._find("scored", candidate.key)

    def graded(self, candidate: Candidate) -> dict[str, Score]:
        """Grades of the candidate, by judge."""
        lines = self._stages.get(candidate.key, {}).values()
        return {line.judge: line.score for line in lines if isinstance(line, GradedLine)}

    def trial(self, candidate: Candidate) -> Trial:
        """Everything known about a candidate."""
        first = next(iter(self._stages.get(candidate.key, {}).values()), None)
        rendered, scored = self.rendered(candidate), self.scored(candidate)
        looks = self.looks(candidate)
        predictions = [look.prediction for look in looks if look.prediction]
        latents = looks[-1].latents if looks else None
        return Trial(
            candidate=candidate,
            round=first.round if first else 0,
            looks=tuple(
                Look(step=at.step, prediction=at.prediction, reason=at.reason, preview=at.preview)
                for at in looks
            ),
            prediction=predictions[-1] if predictions else None,
            latents=latents if latents and latents.exists() else None,
            image=rendered.image if rendered else None,
            score=scored.score if scored else None,
            judged=self.graded(candidate),
        )

    def trials(self, before: int | None = None) -> tuple[Trial, ...]:
        """Every candidate in order; with `before`, only those of earlier rounds."""
        firsts = [next(iter(stages.values())) for stages in self._stages.values()]
        return tuple(
            self.trial(line.candidate) for line in firsts if before is None or line.round < before
        )

    def stages(self, before: int | None = None) -> tuple[StageLine, ...]:
        """Every stage paid for, once each; with `before`, only those of earlier rounds."""
        lines = (line for stages in self._stages.values() for line in stages.values())
        return tuple(line for line in lines if before is None or line.round < before)

    @property
    def unread(self) -> dict[str, tuple[str, ...]]:
        """Words beyond the text encoder's token limit, for each probed prompt that has any."""
        lines = (line for line in self._index.values() if isinstance(line, ProbedLine))
        return {line.candidate.prompt: line.probed.cut for line in lines if line.probed.cut}

    @property
    def proposed(self) -> tuple[ProposedLine, ...]:
        """The rewrites of every round that asked for some, one line a round."""
        return tuple(line for line in self._index.values() if isinstance(line, ProposedLine))

    @property
    def reviewed(self) -> tuple[ApprovedLine, ...]:
        """A person's answers about each round's new prompts."""
        return tuple(line for line in self._index.values() if isinstance(line, ApprovedLine))

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(line.message for line in self.lines if isinstance(line, WarningLine))

    @property
    def finished(self) -> FinishedLine | None:
        """How the run ended; None while it has not."""
        ends = [line for line in self.lines if isinstance(line, FinishedLine)]
        return ends[-1] if ends else None

    @property
    def spent(self) -> Spend:
        """The sum over all lines; a batch repeated after a kill counts as often as recorded."""
        nfe = sum(map(nfe_of, self.lines))
        replies = [line for line in self.lines if isinstance(line, ReplyLine)]
        return Spend(
            nfe=nfe,
            seconds=max((line.at for line in self.lines), default=0.0),
            llm_calls=sum(line.calls for line in replies),
            tokens=sum(line.tokens for line in replies),
            usd=sum(line.usd for line in replies),
        )

    # -- lines ---------------------------------------------------------------------------------

    def _find(self, kind: str, key: str) -> Any:
        return self._index.get((kind, key))

    def _remember(self, line: AnyLine) -> None:
        self.lines.append(line)
        key = line.kind, _key(line)
        self._index[key] = line
        if isinstance(line, StageLine):
            self._stages[line.candidate.key][key] = line

    def _read(self, number: int, text: bytes) -> AnyLine:
        try:
            found = _LINES.validate_json(text)
            return _with_paths(found, lambda path: self.run_dir / path)
        except ValidationError as error:
            raise ValueError(
                f"line {number} of {self._file.path} is damaged: expected one JSON record of this "
                f"version of promptprobe, got {text[:80]!r}. Restore the file, or start a new run. "
                f"({error})"
            ) from error


def nfe_of(line: Line) -> int:
    """Denoiser evaluations recorded by a line."""
    match line:
        case ProbedLine():
            return line.probed.nfe
        case RenderedLine():
            return line.rendered.nfe
        case _:
            return 0


def _key(line: AnyLine) -> str:
    match line:
        case ReplyLine():
            return line.question
        case ProposedLine() | ApprovedLine():
            return str(line.round)
        case ChosenLine():
            return f"{line.round}-{line.step}"
        case ProbedLine():
            return f"{line.candidate.key}-{line.probed.step}"
        case RenderedLine() | ScoredLine():
            return line.candidate.key
        case GradedLine():
            return f"{line.candidate.key}-{line.judge}"
        case _:
            return line.key


def _dump(line: AnyLine, run_dir: Path) -> str:
    def relative(path: Path) -> Path:
        return path.relative_to(run_dir) if path.is_relative_to(run_dir) else path

    return _with_paths(line, relative).model_dump_json()


def _with_paths(line: AnyLine, change: Any) -> AnyLine:
    """The same line with `change` applied to its paths."""
    if isinstance(line, ProbedLine):
        probed, paths = line.probed, {"latents": change(line.probed.latents)}
        if probed.preview is not None:
            paths["preview"] = change(probed.preview)
        moved = probed.model_copy(update=paths)
        return line.model_copy(update={"probed": moved})
    if isinstance(line, RenderedLine) and line.rendered.image is not None:
        image = line.rendered.model_copy(update={"image": change(line.rendered.image)})
        return line.model_copy(update={"rendered": image})
    return line
