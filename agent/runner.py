"""Runs the graph over a run folder: checkpointed, resumable, and kept whatever happens.

This connects the doors to the loop. `optimize_prompt` calls it with the real tools; a test may use
its own.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from promptprobe.agent.context import NOBODY, Context, Person, timed
from promptprobe.agent.events import (
    Finished,
    OnEvent,
    PromptsProposed,
    RoundStarted,
    RunStarted,
    StopReason,
)
from promptprobe.agent.grading.judges import disagreements
from promptprobe.agent.ledger import FinishedLine, Ledger, ScoredLine
from promptprobe.agent.result import OptimizationResult, read_result
from promptprobe.agent.rewrite.proposers import Proposer
from promptprobe.agent.rewrite.review import Review, answered
from promptprobe.agent.run_folder import CHECKPOINT, LATENTS, locked, read
from promptprobe.agent.search.policy import best_of
from promptprobe.tools.protocol import Tools

THREAD = "run"
STEPS_A_RENDER = 40
"""More graph steps than a run can take per render's worth: a safeguard against endless loops."""
REPLAYS = 3
"""How often a run may start over because of its checkpoint."""
IN_MEMORY = ":memory:"
LOCK_SECONDS = 1.0
"""How long SQLite waits for a lock: short, since the locked folder keeps other users out."""
DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}
REFUSED = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_NOLFS,
    sqlite3.SQLITE_IOERR_LOCK,
    sqlite3.SQLITE_IOERR_RDLOCK,
    sqlite3.SQLITE_IOERR_SHMLOCK,
    sqlite3.SQLITE_IOERR_SHMMAP,
    sqlite3.SQLITE_IOERR_SHMOPEN,
}
"""SQLite's primary and extended error codes on a disk that refuses its locks."""


class UnreadableCheckpointError(ValueError):
    """A checkpoint in an intact database that cannot be deserialized."""


async def run_loop(
    run_dir: Path,
    tools: Tools,
    proposer: Proposer,
    on_event: OnEvent | None = None,
    warnings: Sequence[str] = (),
    person: Person = NOBODY,
) -> OptimizationResult:
    """Start or continue the run of a folder; nothing in its ledger is paid for again.

    Raises:
        asyncio.CancelledError: cancelled; the folder can be resumed.
        FolderInUseError: another process works in this folder.
        OSError: the folder cannot be written, for example on a full disk; it can be resumed.
    """
    settings = read(run_dir)
    with locked(run_dir) as notice:
        run = Context(settings, tools, proposer, Ledger(run_dir), on_event, person)
        return await _run_locked(run, [*warnings, notice] if notice else warnings)


async def _run_locked(run: Context, warnings: Sequence[str]) -> OptimizationResult:
    settings, ledger, run_dir = run.settings, run.ledger, run.ledger.run_dir
    run.emit(
        RunStarted,
        brief=settings.brief,
        model=settings.model,
        budget=settings.budget,
        nfe=round(settings.budget.renders * run.tools.nfe_per_render),
        source=run.proposer.source,
        scorer=run.tools.scorer_name,
        judges=run.tools.judge_names,
        run_dir=run_dir,
        resumed=bool(ledger.lines),
        best=best_of(ledger.trials()),
    )
    try:
        for message in warnings:
            run.warn(message)
        ended = ledger.finished
        if ended is not None and ended.stop_reason == "scorer failed":
            await _score_again(run)
            ended = None
        if ended is None:
            reason = await _walk(run)
            trials = ledger.trials()
            for message in disagreements(trials, best_of(trials)):
                run.warn(message)
            ledger.write([FinishedLine(at=run.seconds, stop_reason=reason, trust=run.trust())])
    except asyncio.CancelledError:
        _finish(run, "cancelled")
        raise
    except Exception as error:
        error.add_note(f"The run is kept; continue it with resume={str(run_dir)!r}.")
        raise
    shutil.rmtree(run_dir / LATENTS, ignore_errors=True)
    result = read_result(run_dir, ledger)
    _finish(run, result.stop_reason)
    return result


async def _score_again(run: Context) -> None:
    """Score the pictures that a failed scorer left unscored; only successes are recorded."""
    waiting = [
        (line, path)
        for line in run.ledger.stages()
        if isinstance(line, ScoredLine) and line.score.value is None
        and (found := run.ledger.rendered(line.candidate)) and (path := found.scorable)
    ]  # fmt: skip
    paths = [path for _, path in waiting]
    scores, each = await timed(run.tools.score, run.settings.brief, paths)
    run.ledger.write(
        [
            line.model_copy(update={"at": run.seconds, "score": score, "seconds": each})
            for (line, _), score in zip(waiting, scores, strict=True)
            if score.value is not None
        ]
    )


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
    """Run the graph to its end, starting where the checkpoint left off.

    Losing an unusable checkpoint costs nothing: the run is replayed from the ledger.

    Raises:
        OSError: the checkpoint cannot be written, for example because the disk is full.
    """
    path = run.ledger.run_dir / CHECKPOINT
    place = str(path)
    for _ in range(REPLAYS):
        try:
            return await _walk_from(place, run)
        except UnreadableCheckpointError as error:
            run.warn(f"{CHECKPOINT} cannot be read ({error}); the run is replayed from its ledger")
            _remove(path)
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
            if code & 0xFF in DAMAGED:
                run.warn(f"{CHECKPOINT} was damaged ({error}); the run is replayed from its ledger")
                _remove(path)
            elif code & 0xFF in REFUSED or code in REFUSED:
                run.warn(f"the disk refuses to lock {CHECKPOINT} ({error}); it is kept in memory")
                place = IN_MEMORY
            else:
                raise OSError(f"{path} cannot be written ({error}): is the disk full?") from error
    raise OSError(f"{path} was damaged {REPLAYS} times in a row: is the disk sound?")


def _remove(path: Path) -> None:
    for part in path.parent.glob(f"{path.name}*"):
        part.unlink()


async def _walk_from(place: str, run: Context) -> StopReason:
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
    from langgraph.types import Command

    from promptprobe.agent.graph import SERIALIZED, RunState, compiled

    admitted = JsonPlusSerializer(allowed_msgpack_modules=SERIALIZED)
    config: Any = {
        "configurable": {"thread_id": THREAD},
        "recursion_limit": round((1 + run.settings.budget.renders) * STEPS_A_RENDER),
    }
    async with _connected(place) as connection:
        saver = AsyncSqliteSaver(connection, serde=admitted)
        graph = compiled().copy({"checkpointer": saver})
        snapshot, state = await _restored(graph, config)
        # A run may continue even without a next node: a kill between a node's writes and the
        # checkpoint after them leaves the writes, which LangGraph applies when it resumes.
        request: Any = RunState(round=0) if snapshot.created_at is None else None
        if state.lines > len(run.ledger.lines):  # the ledger wins
            await saver.adelete_thread(THREAD)
            request = RunState(round=0)
        elif state.stop_reason == "scorer failed":  # `_score_again` has retried it
            changed = {"stop_reason": None, "next": "reflect"}
            await graph.aupdate_state(config, changed, as_node="score")
        elif state.stop_reason:
            return state.stop_reason
        elif state.schedule and snapshot.next and "propose" not in snapshot.next:
            _emit_round_again(run, state)
        while True:
            ended = await graph.ainvoke(request, config, context=run, durability="sync")
            if not (interrupts := ended.get("__interrupt__")):
                break
            request = Command(resume=await _answer(run, interrupts[0].value))
    return ended["stop_reason"]


async def _restored(graph: Any, config: Any) -> tuple[Any, Any]:
    """The state in a checkpoint: LangGraph's snapshot, and our record of its values.

    Raises:
        UnreadableCheckpointError: the database is intact, but the state cannot be deserialized.
    """
    from promptprobe.agent.graph import RunState

    try:
        snapshot = await graph.aget_state(config)
        return snapshot, RunState.model_validate(snapshot.values)
    except sqlite3.Error:
        raise
    except Exception as error:  # a decoder may raise anything on unexpected bytes
        raise UnreadableCheckpointError(f"{type(error).__name__}: {error}"[:200]) from error


def _emit_round_again(run: Context, state: Any) -> None:
    """Repeat the first events of the round in which a run resumes."""
    of, seconds = run.last_round(state.round), run.expected_seconds(state.planned, state.round)
    run.emit(RoundStarted, round=state.round, of=of, schedule=state.planned, seconds=seconds)
    run.emit(PromptsProposed, round=state.round, prompts=state.prompts)


async def _answer(run: Context, shown: Any) -> list[str | None]:
    """A person's answers about a round's new prompts."""
    assert run.person.approve is not None, "nothing interrupts a run that nobody watches"
    shown_review = Review.model_validate(shown)
    with run.waiting():
        answers = await run.person.approve(shown_review)
    answered([one.prompt for one in shown_review.prompts], answers)  # raises if invalid
    return list(answers)


@asynccontextmanager
async def _connected(place: str) -> AsyncIterator[Any]:
    """An open database, closed even if the task is cancelled while it opens.

    Otherwise aiosqlite leaves a thread that wakes up after the event loop has gone, and fails with
    a traceback.
    """
    import aiosqlite

    opening = asyncio.ensure_future(aiosqlite.connect(place, timeout=LOCK_SECONDS))
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
