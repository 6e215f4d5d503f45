"""A killed run goes on and pays for nothing twice but what was in flight."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from promptprobe.agent.result import OptimizationResult, read_result
from promptprobe.agent.runner import run_loop
from tests.agent import scripted
from tests.agent.scripted import ScriptedTools, offline, start
from tests.processes import called

BATCH = ScriptedTools.batch_size
CHECKPOINTS = (2, 5, 9, 11, 15)
"""Of those that it writes, two at the start and one a node."""


def finish(run_dir: Path, log: Path, events: list[Any] | None = None) -> OptimizationResult:
    listen = events.append if events is not None else None
    return asyncio.run(run_loop(run_dir, ScriptedTools(log), offline(), listen))


def content(result: OptimizationResult) -> object:
    """All but time and place."""
    hidden: dict[str, Any] = {"run_dir": True, "spent": {"seconds"}, "warnings": True}
    files: Any = {"image": True, "looks": {"__all__": {"preview"}}}
    trials = [t.model_dump(exclude=files) for t in result.trials]
    rest = result.model_dump(exclude=hidden | {"trials": True, "best": True, "initial": True})
    return trials, rest, result.best.candidate, result.initial.candidate


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> OptimizationResult:
    folder = tmp_path_factory.mktemp("uninterrupted")
    return finish(start(folder), folder / "log")


@pytest.mark.parametrize("die_after", [1, 3, 6, 10])
def test_a_run_killed_anywhere_goes_on_to_the_same_result(
    die_after: int, tmp_path: Path, uninterrupted: OptimizationResult
) -> None:
    run_dir, log = start(tmp_path), tmp_path / "log"
    assert called(scripted.run_until_drawn, run_dir, log, die_after) == -signal.SIGKILL
    assert len(log.read_text().splitlines()) == die_after
    events: list[Any] = []
    result = finish(run_dir, log, events)
    assert content(result) == content(uninterrupted)
    assert events[0].resumed == (die_after > 1)
    done = Counter(log.read_text().splitlines())
    assert sum(done.values()) - len(done) <= BATCH  # the batch in flight
    work = (uninterrupted.run_dir.parent / "log").read_text().splitlines()
    assert set(done) == set(work)
    assert max(done.values()) <= 2


def test_a_run_killed_between_a_nodes_writes_and_its_checkpoint_pays_nothing_twice(
    tmp_path: Path, uninterrupted: OptimizationResult
) -> None:
    for number in CHECKPOINTS:
        (tmp_path / str(number)).mkdir()
        run_dir, log = start(tmp_path / str(number)), tmp_path / str(number) / "log"
        assert called(scripted.run_until_checkpoint, run_dir, log, number) == -signal.SIGKILL
        assert content(finish(run_dir, log)) == content(uninterrupted), f"checkpoint {number}"
        work = (uninterrupted.run_dir.parent / "log").read_text().splitlines()
        assert sorted(log.read_text().splitlines()) == sorted(work)


def test_latents_outlive_a_lost_checkpoint_so_that_their_steps_are_not_paid_twice(
    tmp_path: Path, uninterrupted: OptimizationResult
) -> None:
    run_dir, log = start(tmp_path), tmp_path / "log"

    def stop_at_selection(event: Any) -> None:
        if event.kind == "kept" and event.round == 1:
            raise RuntimeError("the power is gone")

    with pytest.raises(RuntimeError, match="power") as stopped:
        asyncio.run(run_loop(run_dir, ScriptedTools(log), offline(), stop_at_selection))
    assert "The run is kept" in stopped.value.__notes__[-1]
    (run_dir / "checkpoint.sqlite").unlink()
    result = finish(run_dir, log)
    assert content(result) == content(uninterrupted)
    assert result.spent.nfe == uninterrupted.spent.nfe


def test_a_finished_run_costs_nothing_to_resume(tmp_path: Path) -> None:
    run_dir = start(tmp_path)
    first = finish(run_dir, tmp_path / "log")
    again = finish(run_dir, tmp_path / "other log")
    assert again == first
    assert not (tmp_path / "other log").exists()


def test_the_ledger_wins_over_a_lost_damaged_or_advanced_checkpoint(
    tmp_path: Path, uninterrupted: OptimizationResult
) -> None:
    for name in ("lost", "damaged", "advanced"):
        (tmp_path / name).mkdir()
        run_dir = start(tmp_path / name)
        finish(run_dir, tmp_path / name / "log")
        ledger, checkpoint = run_dir / "trials.jsonl", run_dir / "checkpoint.sqlite"
        lines = ledger.read_bytes().splitlines(keepends=True)
        ledger.write_bytes(b"".join(lines[:9]) + lines[9][:30])  # its last line is cut off
        if name == "lost":
            checkpoint.unlink()
        if name == "damaged":
            checkpoint.write_bytes(b"no database" * 1000)
        result = finish(run_dir, tmp_path / name / "log")
        tried = [(trial.candidate, trial.score) for trial in result.trials]
        assert tried == [(trial.candidate, trial.score) for trial in uninterrupted.trials]
        assert ("damaged" in " ".join(result.warnings)) == (name == "damaged")


def test_a_run_folder_may_be_moved(tmp_path: Path, uninterrupted: OptimizationResult) -> None:
    run_dir = start(tmp_path)
    finish(run_dir, tmp_path / "log")
    moved = run_dir.rename(tmp_path / "elsewhere")
    result = read_result(moved)
    assert content(result) == content(uninterrupted)
    assert result.best.image is not None
    assert result.best.image.is_relative_to(moved)
    assert result.best.image.is_file()


def test_a_lost_image_is_rendered_again(tmp_path: Path) -> None:
    run_dir, log = start(tmp_path), tmp_path / "log"
    finish(run_dir, log)
    ledger = run_dir / "trials.jsonl"
    kept = [line for line in ledger.read_text().splitlines() if '"finished"' not in line]
    ledger.write_text("\n".join(kept) + "\n")
    (run_dir / "checkpoint.sqlite").unlink()
    lost = read_result(run_dir).initial
    assert lost.image is not None
    lost.image.unlink()
    result = finish(run_dir, log)
    assert result.initial.image is not None
    assert result.initial.image.is_file()
    assert Counter(log.read_text().splitlines())[f"render {lost.candidate.key}"] == 2


def test_a_cancelled_run_is_kept_and_told(
    tmp_path: Path, uninterrupted: OptimizationResult
) -> None:
    run_dir, log = start(tmp_path), tmp_path / "log"
    events: list[Any] = []

    async def cancelled() -> None:
        def watch(event: Any) -> None:
            events.append(event)
            if event.kind == "kept" and event.round == 1:
                task.cancel()

        task = asyncio.create_task(run_loop(run_dir, ScriptedTools(log), offline(), watch))
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled())
    assert (events[-1].kind, events[-1].stop_reason) == ("finished", "cancelled")
    assert events[-1].initial is not None
    assert read_result(run_dir).stop_reason == "cancelled"
    told: list[Any] = []
    assert content(finish(run_dir, log, told)) == content(uninterrupted)
    again, begun, proposed = told[:3]
    of_round = {event.kind: event for event in events if getattr(event, "round", None) == 1}
    assert (again.kind, again.best) == ("started", events[-1].best)
    assert (begun.kind, begun.schedule) == ("round started", of_round["round started"].schedule)
    assert (proposed.kind, proposed.prompts) == ("proposed", of_round["proposed"].prompts)


def test_cancelled_while_its_checkpoint_opens_a_run_leaves_no_thread_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    died: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", died.append)
    run_dir, log, before = start(tmp_path), tmp_path / "log", set(threading.enumerate())

    async def cancelled() -> None:
        def watch(event: Any) -> None:
            if event.kind == "started":
                task.cancel()

        task = asyncio.create_task(run_loop(run_dir, ScriptedTools(log), offline(), watch))
        await task

    for _ in range(20):
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(cancelled())
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
        assert not thread.is_alive()
    assert died == []


def test_ctrl_c_ends_in_keyboard_interrupt_and_keeps_the_run(
    tmp_path: Path, uninterrupted: OptimizationResult
) -> None:
    run_dir, log = start(tmp_path), tmp_path / "log"

    def interrupt(event: Any) -> None:
        if event.kind == "looked" and event.round == 1:
            assert threading.current_thread() is threading.main_thread()
            os.kill(os.getpid(), signal.SIGINT)

    # A test run that was started in the background of a script has it ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(run_loop(run_dir, ScriptedTools(log), offline(), interrupt))
    finally:
        signal.signal(signal.SIGINT, before)
    assert content(finish(run_dir, log)) == content(uninterrupted)


def test_a_checkpoint_brings_nothing_to_life_but_our_records(tmp_path: Path) -> None:
    run_dir = start(tmp_path)
    finish(run_dir, tmp_path / "log")
    with sqlite3.connect(run_dir / "checkpoint.sqlite") as database:
        blobs = [row[0] for row in database.execute("select checkpoint from checkpoints")]
    database.close()
    assert blobs
    ours = {b"promptprobe.tools.records", b"promptprobe.agent.events"}
    named = {name for blob in blobs for name in ours if name in blob}
    assert named
    assert not any(b"ScriptedTools" in blob or b"torch" in blob for blob in blobs)


def test_a_foreign_class_in_a_checkpoint_stays_data() -> None:
    import ormsgpack
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

    from promptprobe.agent.graph import SERIALIZED

    evil = ormsgpack.packb(ormsgpack.Ext(0, ormsgpack.packb(("os", "getenv", "HOME"))))
    serializer = JsonPlusSerializer(allowed_msgpack_modules=SERIALIZED)
    assert serializer.loads_typed(("msgpack", evil)) == "HOME"
