"""An LLM as proposer: it lists what the brief requires, rewrites it, and judges its rewrites.

Requirements are listed once, as quotes from the brief. A rewrite names the phrase that meets each
of them; then one more question checks all rewrites of a round against the list. What code can
decide (facts.py) does not depend on the LLM. Brief and trials go to the LLM as JSON data; its reply
is untrusted text that is validated and bounded.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from promptprobe.agent.events import Refusal
from promptprobe.agent.rewrite.facts import check_facts
from promptprobe.agent.rewrite.guard import (
    Claim,
    Requirement,
    check_claims,
    check_text,
    no_reading,
    shows_nothing,
)
from promptprobe.agent.rewrite.llm_prompts import (
    FREEDOM,
    JUDGE,
    PICTURE,
    READS,
    REWRITE,
    SENTENCES,
    TAKE_REQUIREMENTS,
)
from promptprobe.agent.rewrite.proposers import Proposals, Recall, Request
from promptprobe.agent.search.policy import best_of, by_prompt
from promptprobe.tools.collect.prompts import content_of
from promptprobe.tools.endpoint.endpoint import LLM, Reply
from promptprobe.tools.records import Trial

MAX_REQUIREMENTS = 24
SHOWN_TRIALS = 8
SHOWN_REFUSALS = 8
MOST_PIXELS = 1_000_000
"""Maximum size of the contact sheet that a vision model sees."""


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Requirement(_Data):
    kind: str
    text: str


class Requirements(_Data):
    requirements: list[_Requirement]


class _Meets(_Data):
    requirement: str
    phrase: str


class _Rewrite(_Data):
    prompt: str
    meets: list[_Meets]


class Rewrites(_Data):
    rewrites: list[_Rewrite]


class _Judgement(_Data):
    number: int
    dropped: list[str] = Field(default_factory=list)
    contradicted: list[str] = Field(default_factory=list)
    added: list[str] = Field(default_factory=list)


class Judgements(_Data):
    judgements: list[_Judgement]


ReplyShape = TypeVar("ReplyShape", Requirements, Rewrites, Judgements)


class Answers(Protocol):
    """An LLM that answers questions: an endpoint, or a model in this process."""

    llm: LLM

    @property
    def model(self) -> str:
        """The LLM's name."""

    async def ask(
        self, system: str, user: str, schema: type[BaseModel], picture: bytes | None = None
    ) -> Reply:
        """A validated answer, or why there is none."""

    def release(self) -> None:
        """Free memory until the next question."""


@dataclass(frozen=True)
class LlmProposer:
    """Rewrites by an LLM, which also judges them."""

    endpoint: Answers
    own: Callable[[str, str], str | None] = no_reading
    """A built-in model's own check, which decides if it understands both texts."""

    @property
    def source(self) -> str:
        return f"the LLM {self.endpoint.model}"

    async def propose(self, request: Request, recall: Recall) -> Proposals:
        try:
            return await self._propose(request, recall)
        finally:
            self.endpoint.release()

    async def _propose(self, request: Request, recall: Recall) -> Proposals:
        required, warnings = await self._requirements(request.brief, recall)
        system = REWRITE.format(freedom=FREEDOM[request.rewrite])
        user = _briefing(request, required, self.endpoint.llm.guidance)
        picture = await asyncio.to_thread(_sheet, request) if self.endpoint.llm.vision else None
        reply = await self._ask(
            system + (PICTURE if picture else ""), user, Rewrites, recall, picture
        )
        if isinstance(reply, str):
            without = f"round {request.round} goes on without rewrites of {self.source}: {reply}"
            return Proposals(warnings=(*warnings, without))
        reasons: dict[str, str] = {}
        claimed: dict[str, str] = {}
        meets: dict[str, tuple[str, ...]] = {}
        for rewrite in reply.rewrites[: 2 * request.want]:
            prompt = rewrite.prompt.strip()
            claims, found = _claims(rewrite), self._certain(request, prompt)
            unshown = check_claims(required, prompt, claims)
            if found is None and shows_nothing(required, prompt, claims):
                found = unshown
            if found is None:
                claimed[prompt] = unshown
                meets[prompt] = tuple(claim.phrase for claim in claims)
            else:
                reasons[prompt] = found
        judged, warning = await self._judge(request, required, list(claimed), recall)
        reasons |= claimed | judged
        return Proposals(
            offered=tuple(prompt for prompt, reason in reasons.items() if not reason),
            meets=meets,
            refused=tuple(
                Refusal(prompt=prompt[:400], reason=reason)
                for prompt, reason in reasons.items()
                if reason
            ),
            warnings=(*warnings, *warning),
        )

    def _certain(self, request: Request, prompt: str) -> str | None:
        """The verdict of code: why a rewrite is refused, "" if it is fine, None to ask the LLM."""
        try:
            check_text(prompt, "a rewrite")
        except ValueError as problem:
            return str(problem)
        return check_facts(request.brief, prompt, request.keep) or self.own(request.brief, prompt)

    async def _judge(
        self,
        request: Request,
        required: Sequence[Requirement],
        prompts: Sequence[str],
        recall: Recall,
    ) -> tuple[dict[str, str], tuple[str, ...]]:
        """For each judged prompt, why it is refused or ""; and a warning if judging failed."""
        if not prompts:
            return {}, ()
        user = json.dumps(
            {
                "request": request.brief,
                "requirements": [requirement.text for requirement in required],
                "rewrites": [{"number": n, "prompt": p} for n, p in enumerate(prompts, 1)],
            },
            ensure_ascii=False,
        )
        reply = await self._ask(JUDGE, user, Judgements, recall)
        if isinstance(reply, str):
            return {}, (
                f"{self.source} did not judge its rewrites, so its own claims decide: {reply}",
            )
        known = {content_of(requirement.text): requirement.text for requirement in required}
        judged = {
            prompts[one.number - 1]: _verdict(one, known, request.rewrite)
            for one in reply.judgements
            if 1 <= one.number <= len(prompts)
        }
        if missing := len(prompts) - len(judged):
            warning = f"{self.source} left {missing} of {len(prompts)} rewrites unjudged: "
            return judged, (f"{warning}its own claims decide of those",)
        return judged, ()

    async def _requirements(
        self, brief: str, recall: Recall
    ) -> tuple[tuple[Requirement, ...], tuple[str, ...]]:
        """The listed requirements that quote the brief or, if there are none, the whole brief.

        The question is the same in every round, so it is asked only once.
        """
        whole = (Requirement(kind="request", text=brief[:400]),)
        user = json.dumps({"request": brief}, ensure_ascii=False)
        reply = await self._ask(TAKE_REQUIREMENTS, user, Requirements, recall)
        if isinstance(reply, str):
            return whole, (
                f"{self.source} listed no requirements, so its rewrites are held to the brief as a "
                f"whole: {reply}",
            )
        whole_content = content_of(brief)
        quoted = [r for r in reply.requirements if 0 < len(r.text) <= 400 and len(r.kind) <= 40]
        kept: dict[str, Requirement] = {}
        for r in quoted:
            if (content := content_of(r.text)) in whole_content:
                kept.setdefault(content, Requirement(kind=r.kind, text=r.text))
        return tuple(kept.values())[:MAX_REQUIREMENTS] or whole, ()

    async def _ask(
        self,
        system: str,
        user: str,
        shape: type[ReplyShape],
        recall: Recall,
        picture: bytes | None = None,
    ) -> ReplyShape | str:
        """A valid reply, or what is wrong with it."""
        content = json.dumps([self.endpoint.model, system, user])
        question = hashlib.sha256(content.encode()).hexdigest()[:16]

        async def ask() -> Reply:
            return await self.endpoint.ask(system, user, shape, picture)

        reply = await recall(question, ask)
        if reply.text is None:
            return reply.problem
        try:
            return shape.model_validate_json(reply.text)
        except ValidationError as error:
            first = error.errors()[0]
            return f"its reply is not the JSON asked for ({first['msg']}): {reply.text[:80]!r}"


def _sheet(request: Request) -> bytes | None:
    """A contact sheet of what earlier rounds drew, bounded in pixels."""
    from promptprobe.tools.pictures.contact_sheet import small_contact_sheet

    best = best_of(request.trials)
    if best is None:
        return None
    return small_contact_sheet(request.brief, request.trials[0], best, request.trials, MOST_PIXELS)


def _claims(rewrite: _Rewrite) -> list[Claim]:
    return [Claim(requirement=m.requirement[:400], phrase=m.phrase[:400]) for m in rewrite.meets]


def _verdict(found: _Judgement, known: dict[str, str], rewrite: str) -> str:
    """The judgement in words, ignoring anything that is not a listed requirement."""
    for verb, names in (("contradicts", found.contradicted), ("drops", found.dropped)):
        contents = dict.fromkeys(map(content_of, names))
        if listed := [known[content] for content in contents if content in known]:
            return f"it {verb} {', '.join(map(repr, listed))}"
    if rewrite == "faithful" and found.added:
        return f"it adds {', '.join(name[:60] for name in found.added[:4])}"
    return ""


def _briefing(request: Request, required: Sequence[Requirement], guidance: str) -> str:
    """The user message for the LLM, as JSON."""
    return json.dumps(
        {
            "brief": request.brief,
            "requirements": [r.model_dump() for r in required],
            "keep": request.keep,
            "guidance": guidance,
            "image_model": READS.get(request.pipeline, SENTENCES),
            "never_read": request.unread.get(request.brief, ()),
            "rounds_left": request.rounds_left,
            "how_many": request.want,
            "tried": request.tried,
            "refused": [r.model_dump() for r in request.refused[-SHOWN_REFUSALS:]],
            "trials": diagnosis(request.trials, request.unread),
        },
        ensure_ascii=False,
    )


def diagnosis(
    trials: tuple[Trial, ...], unread: Mapping[str, Sequence[str]]
) -> list[dict[str, object]]:
    """One entry per prompt, the most promising first: scores, and which words look doubtful."""
    lines = [
        _line(prompt, group, unread.get(prompt, ())) for prompt, group in by_prompt(trials).items()
    ]
    return sorted(lines, key=lambda line: -float(str(line["predicted_mean"])))[:SHOWN_TRIALS]


def _line(prompt: str, trials: list[Trial], unread: Sequence[str]) -> dict[str, object]:
    predictions = [t.prediction for t in trials if t.prediction]
    present: dict[str, list[float]] = defaultdict(list)
    for prediction in predictions:
        for word in prediction.words:
            if word.drawn is not None:
                present[word.word].append(word.drawn)
    scores = [t.score for t in trials if t.score and t.score.value is not None]
    mean = sum(p.score for p in predictions) / len(predictions) if predictions else 0.0
    return {
        "prompt": prompt,
        "seeds": len(trials),
        "predicted_mean": round(mean, 3),
        "scores": [round(s.value, 3) for s in scores if s.value is not None],
        "found": [s.explanation for s in scores if s.explanation][:3],
        "never_read": list(unread),
        "present": {word: round(sum(values) / len(values), 2) for word, values in present.items()},
    }
