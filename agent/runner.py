"""Runs the graph over a run folder: checkpointed, resumable, and kept whatever happens.

The seam between doors and loop. `optimize_prompt` comes here with the real tools; a test may come
with its own.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from promptprobe.agent.context import Context
from promptprobe.agent.events import Finished, OnEvent, RunStarted, StopReason
from promptprobe.agent.ledger import FinishedLine, Ledger
from promptprobe.agent.policy import best_of
from promptprobe.agent.result import OptimizationResult, read_result
from promptprobe.agent.rewrite.proposers import Proposer
from promptprobe.agent.rewrite.review import Approve, Review, answered
from promptprobe.agent.run_folder import CHECKPOINT, LATENTS, read
from promptprobe.tools.protocol import Tools

THREAD = "run"
STEPS_A_RENDER = 40
"""More nodes than a run can pass through for a render's worth: a fuse, not a limit."""


async def run_loop(
    run_dir: Path,
    tools: Tools,
    proposer: Proposer,
    on_event: OnEvent | None = None,
    warnings: Sequence[str] = (),
    approve: Approve | None = None,
) -> OptimizationResult:
    """Start the run of a folder, or go on with it; what its ledger holds is not paid for again.

    Raises:
        asyncio.CancelledError: cancelled; the folder can be resumed.
    """
    settings, ledger = read(run_dir), Ledger(run_dir)
    run = Context(settings, tools, proposer, ledger, on_event, approve)
    run.emit(
        RunStarted,
        brief=settings.brief,
        model=settings.model,
        budget=settings.budget,
        nfe=round(settings.budget.renders * tools.nfe_per_render),
        source=proposer.source,
        run_dir=run_dir,
        resumed=bool(ledger.lines),
    )
    for message in warnings:
        run.warn(message)
    try:
        if ledger.finished is None:
            reason = await _walk(run)
            ledger.write([FinishedLine(at=run.seconds, stop_reason=reason, trust=run.trust())])
    except asyncio.CancelledError:
        _finish(run, "cancelled")
        raise
    except Exception as error:
        error.add_note(f"The run is kept; go on with resume={str(run_dir)!r}.")
        raise
    shutil.rmtree(run_dir / LATENTS, ignore_errors=True)
    result = read_result(run_dir, ledger)
    _finish(run, result.stop_reason)
    return result


def _finish(run: Context, reason: StopReason) -> None:
    trials = run.ledger.trials()
    run.emit(
        Finished,
        stop_reason=reason,
        best=best_of(trials),
        initial=trials[0] if trials else None,
        run_dir=run.ledger.run_dir,
    )


async def _walk(run: Context) -> StopReason:
    """Through the graph to its end, from where the checkpoint says that it stood."""
    path = run.ledger.run_dir / CHECKPOINT
    try:
        return await _walk_from(path, run)
    except sqlite3.DatabaseError as error:
        run.warn(f"{CHECKPOINT} was damaged ({error}); the run is replayed from its ledger")
        for damaged in path.parent.glob(f"{CHECKPOINT}*"):
            damaged.unlink()
        return await _walk_from(path, run)


async def _walk_from(path: Path, run: Context) -> StopReason:
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
    from langgraph.types import Command

    from promptprobe.agent.graph import SERIALIZED, RunState, build

    admitted = JsonPlusSerializer(allowed_msgpack_modules=SERIALIZED)
    config: Any = {
        "configurable": {"thread_id": THREAD},
        "recursion_limit": round((1 + run.settings.budget.renders) * STEPS_A_RENDER),
    }
    async with _connected(path) as connection:
        saver = AsyncSqliteSaver(connection, serde=admitted)
        graph = build().compile(checkpointer=saver)
        stood = await graph.aget_state(config)
        begins = None if stood.next else RunState(round=0)
        if stood.values.get("lines", 0) > len(run.ledger.lines):  # the ledger wins
            await saver.adelete_thread(THREAD)
            begins = RunState(round=0)
        elif stood.values.get("stop_reason"):
            return stood.values["stop_reason"]
        told: Any = begins
        while True:
            ended = await graph.ainvoke(told, config, context=run, durability="sync")
            if not (asked := ended.get("__interrupt__")):
                break
            told = Command(resume=await _answer(run, asked[0].value))
    return ended["stop_reason"]


async def _answer(run: Context, shown: Any) -> list[str | None]:
    """What a person says of a round's new prompts."""
    assert run.approve is not None, "nothing interrupts a run that nobody watches"
    asked = Review.model_validate(shown)
    answers = await run.approve(asked)
    answered([one.prompt for one in asked.prompts], answers)  # what cannot be meant ends here
    return list(answers)


@asynccontextmanager
async def _connected(path: Path) -> AsyncIterator[Any]:
    """An open database. One cancelled while it opens is closed all the same.

    aiosqlite then leaves a thread that wakes up after the event loop has gone, and dies aloud.
    """
    import aiosqlite

    opening = asyncio.ensure_future(aiosqlite.connect(path))
    try:
        connection = await asyncio.shield(opening)
    except asyncio.CancelledError:
        with suppress(sqlite3.Error):
            await (await opening).close()
        raise
    try:
        yield connection
    finally:
        await connection.close()
