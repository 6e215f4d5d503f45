"""A run as a stream of events: they arrive as it works, and leaving the loop keeps the run."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import promptprobe
from promptprobe.agent.doors.stream import Stopped, StreamEvent, streamed
from promptprobe.agent.ledger import Ledger
from promptprobe.agent.optimize import aoptimize_prompt
from promptprobe.agent.result import OptimizationResult
from promptprobe.agent.runner import run_loop
from promptprobe.probe.cancellation import WorkCancelledError, check_cancelled
from promptprobe.tools.protocol import Rendered
from promptprobe.tools.records import Candidate
from tests.agent.scripted import ScriptedTools, offline, start


@streamed
async def events_of(run_dir: Path, tools: ScriptedTools, on_event: Any = None) -> Any:
    return await run_loop(run_dir, tools, offline(), on_event)


async def watched(run_dir: Path, tools: ScriptedTools, until: str) -> list[StreamEvent]:
    """The events up to one of this kind in round 1, where the loop is left."""
    seen: list[StreamEvent] = []
    async with aclosing(events_of(run_dir, tools)) as events:
        async for event in events:
            seen.append(event)
            if event.kind == until and getattr(event, "round", 1) == 1:
                break
    return seen


def content(result: OptimizationResult) -> dict[str, Any]:
    return result.model_dump(exclude={"run_dir", "spent", "trials", "best", "initial"})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> OptimizationResult:
    folder = tmp_path_factory.mktemp("whole")
    return asyncio.run(run_loop(start(folder), ScriptedTools(folder / "log"), offline()))


def test_events_come_in_order_and_the_last_holds_the_result(
    tmp_path: Path, whole: OptimizationResult
) -> None:
    seen = asyncio.run(watched(start(tmp_path), ScriptedTools(tmp_path / "log"), "stopped"))
    kinds = [event.kind for event in seen]
    assert kinds[:3] == ["started", "round started", "proposed"]
    assert {"looked", "kept", "rendered", "scored", "round"} <= set(kinds)
    last = seen[-1]
    assert isinstance(last, Stopped) and kinds.count("stopped") == 1
    assert content(last.result) == content(whole)


@pytest.mark.parametrize("until", ["proposed", "looked", "kept", "scored", "round"])
def test_a_loop_that_is_left_keeps_the_run_which_goes_on_to_the_same_end(
    until: str, tmp_path: Path, whole: OptimizationResult
) -> None:
    run_dir, tools = start(tmp_path), ScriptedTools(tmp_path / "log")
    seen = asyncio.run(watched(run_dir, tools, until))
    assert seen[-1].kind == until
    seen = asyncio.run(watched(run_dir, tools, "stopped"))
    assert isinstance(seen[-1], Stopped)
    assert content(seen[-1].result) == content(whole)
    done = (tmp_path / "log").read_text().splitlines()
    assert len(done) - len(set(done)) <= tools.batch_size, "at most the batch in flight is repeated"


@dataclass
class EndlessTools(ScriptedTools):
    """Renders until it is cancelled, a step after the other."""

    drawing: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    def render(
        self, candidates: Sequence[Candidate], latents: Sequence[Path | None], folder: Path
    ) -> list[Rendered]:
        self.drawing.set()
        try:
            while True:
                check_cancelled()
        except WorkCancelledError:
            self.ended.set()
            raise


def test_cancelling_the_task_of_the_loop_ends_the_run_between_two_steps(tmp_path: Path) -> None:
    run_dir, tools = start(tmp_path), EndlessTools(tmp_path / "log")

    async def cancelled() -> None:
        task = asyncio.create_task(watched(run_dir, tools, "stopped"))
        await asyncio.to_thread(tools.drawing.wait, 10)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled())
    assert tools.ended.wait(10)
    assert Ledger(run_dir).trials(), "what was paid for before is kept"


def test_what_the_run_raises_comes_out_of_the_loop() -> None:
    async def refused() -> None:
        async for _ in promptprobe.stream("a red bicycle"):
            raise AssertionError("nothing is opened for a brief that cannot be drawn")

    with pytest.raises(ValueError, match="bicycle is not one of its twelve things"):
        asyncio.run(refused())


def test_a_stream_takes_what_optimize_prompt_takes() -> None:
    assert (
        inspect.signature(promptprobe.stream).parameters
        == inspect.signature(aoptimize_prompt).parameters
    )
    assert "resume" in inspect.signature(promptprobe.Session.stream).parameters
