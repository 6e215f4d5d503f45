"""Every public name as a user's program writes it: no strict type checker may complain of it.

mypy reads this file as it reads all others; tests/test_public_surface.py has pyright read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, assert_type

from promptprobe import (
    BUDGETS,
    LLM,
    Budget,
    Candidate,
    Choice,
    Generation,
    OptimizationResult,
    Owner,
    Prediction,
    Proposer,
    Review,
    Score,
    Scorer,
    Session,
    Spend,
    StreamEvent,
    Trial,
    Verdict,
    __version__,
    acall_tool,
    aoptimize_prompt,
    as_node,
    call_tool,
    langchain_tools,
    optimize_prompt,
    probe_prompts,
    stream,
    tool_schemas,
    train_probe,
)


def judge(brief: str, image: Any) -> Score:
    """A scorer of one's own."""
    words = (Verdict(word=brief, ok=True, chance=1.0),)
    return Score(value=0.5, explanation="half of it", words=words)


async def approve(review: Review) -> list[str | None]:
    """Approve every new prompt."""
    return [one.prompt for one in review.prompts]


def choose(choice: Choice) -> list[Candidate] | None:
    """Let the first one go on."""
    return [choice.trials[0].candidate] if choice.most else None


def one_brief() -> Spend:
    """The call of a script, and what is read of its result."""
    result = optimize_prompt(
        "a fox in snow",
        model="my-model",
        generation=Generation(steps=20, guidance=7.0),
        llm=LLM(model="name", temperature=0.7),
        scorer=judge,
        budget=Budget(renders=8, llm_calls=10),
        approve=approve,
        choose=choose,
    )
    assert_type(result, OptimizationResult)
    best: Trial = result.best
    prediction: Prediction | None = best.prediction
    if best.score is not None and best.score.value is not None and prediction is not None:
        print(best.candidate.seed, best.score.value - prediction.score, best.image, result.report)
    return result.spent


def many_calls(folder: Path) -> None:
    """A session and its verbs."""
    session = Session("my-model", scorer=["clip:my-clip", judge], judge=judge)
    seen = session.probe("a fox in snow", seeds=(1, 2))
    first = seen.candidates[0]
    [drawn] = session.render([Candidate(prompt=first.prompt, seed=first.seed)], folder)
    if drawn.image is not None:
        [score] = session.score("a fox in snow", [drawn.image])
        assert_type(score, Score)
    assert_type(session.optimize("a fox in snow", budget=BUDGETS["heavy"]), OptimizationResult)
    print(probe_prompts("a fox in snow", ["a red fox"], model="my-model").candidates[0].predicted)
    print(train_probe(["a fox"], model="my-model", scorer="clip:my-clip", out=folder)["verdict"])


async def watched(session: Session) -> OptimizationResult | None:
    """The events of a run, each known by its kind."""
    async for event in stream("a fox in snow", budget=2):
        assert_type(event, StreamEvent)
        if event.kind == "rendered":
            print(event.done, event.of, event.trials[-1].image)
        elif event.kind == "kept":
            print([candidate.seed for candidate in event.candidates])
        elif event.kind == "stopped":
            assert_type(event.result, OptimizationResult)
    async for event in session.stream("a fox in snow", rewrite="off"):
        if event.kind == "stopped":
            return event.result
    return await aoptimize_prompt("a fox in snow", out="runs")


async def as_tools(owner: Owner, arguments: Mapping[str, Any]) -> str:
    """Tool calls of an agent's own loop."""
    print(__version__, tool_schemas("openai")[0], [tool.name for tool in langchain_tools()])
    print(as_node(owner=owner).invoke({"brief": "a fox in snow"})["optimization"])
    return call_tool("probe_prompts", arguments) + await acall_tool("optimize_prompt", "{}")


def told(proposer: Proposer, scorer: Scorer) -> str:
    """What rewrites and who judges, in words."""
    return f"{proposer.source}; {scorer.name}"
