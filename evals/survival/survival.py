"""`promptprobe eval survival`: does a killed and resumed run end like an uninterrupted one?

Each run is a process of its own. Some kill themselves at one of the calls by which they write
(writes.py), spread evenly over the run; others are killed by SIGKILL at a random time. A new
process then resumes the run, and its best trial, all trials and the denoiser evaluations in the
ledger are compared with those of an uninterrupted run.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from promptprobe.agent.optimize import optimize_prompt
from promptprobe.agent.result import OptimizationResult, read_result
from promptprobe.agent.run_folder import FILE
from promptprobe.evals.survival.writes import watch
from promptprobe.tools.records import Budget, Generation

BRIEF = "a red cat above a blue car"
STEPS = 25
RENDERS = 6.0
PRELOADED = [
    "promptprobe.tools.toolbox",
    "promptprobe.tools.models.model",
    "promptprobe.agent.graph",
    "langgraph.checkpoint.sqlite.aio",
    "promptprobe.tools.sprites.plugin",
    "transformers.models.clip.modeling_clip",
    "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion",
]
"""Modules that all child processes need, so they are imported only once."""
ABOUT = "unbroken.json"
"""File that a finished run leaves next to its folder: its moments and seconds."""
Report = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """The settings of one run, for a child process."""

    model: str
    out: Path
    steps: int = STEPS
    renders: float = RENDERS
    die_at: int | None = None


def evaluate(
    model: str,
    kills: int,
    at_random: int,
    seed: int = 0,
    steps: int = STEPS,
    renders: float = RENDERS,
    advance: Callable[[], object] = lambda: None,
) -> Report:
    """Kill and resume runs, and count those with another result.

    Args:
        model: a built-in model's name, a folder or a hub id.
        kills: runs killed at calls by which they write.
        at_random: runs killed at random times.
        seed: seed of the random times.
        steps: denoising steps of a render.
        renders: the budget of a run, in renders' worth.
        advance: called after each run.

    Raises:
        RuntimeError: an uninterrupted run fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        first = Job(model, Path(folder) / "unbroken", steps, renders)
        if _run(first) != 0:
            raise RuntimeError(f"an uninterrupted run of {model} fails; see the error above")
        wanted = outcome(read_result(_run_dir(first.out)))
        about = json.loads((first.out / ABOUT).read_text())
        cases: dict[str, list[Report]] = {"at_writes": [], "at_random": []}
        for number, die_at in enumerate(spread(about["moments"], kills)):
            job = replace(first, out=Path(folder) / f"write-{number}", die_at=die_at)
            cases["at_writes"].append({"moment": die_at, **broken(job, None, wanted)})
            advance()
        luck = random.Random(seed)
        for number in range(at_random):
            job = replace(first, out=Path(folder) / f"random-{number}")
            after = luck.uniform(0, about["seconds"])
            killed = broken(job, after, wanted)
            cases["at_random"].append({"seconds": round(after, 2), **killed})
            advance()
    counted = {name: _counted(found) for name, found in cases.items()}
    return {"eval": "survival", "model": model, **about, **counted}


def broken(job: Job, after: float | None, wanted: Report) -> Report:
    """Kill a run, resume it, and list how its outcome differs from an uninterrupted run's.

    Args:
        job: the run; it kills itself if its `die_at` says so.
        after: seconds until it is killed from outside; None if it is not.
        wanted: the outcome of an uninterrupted run.
    """
    code = _run(job, after)
    if _run(replace(job, die_at=None)) != 0:
        return {"killed": code < 0, "differs": ["it cannot be resumed"]}
    found = outcome(read_result(_run_dir(job.out)))
    return {"killed": code < 0, "differs": [name for name in wanted if found[name] != wanted[name]]}


def outcome(result: OptimizationResult) -> Report:
    """Everything that must not depend on a kill."""
    return {
        "best": (result.best.candidate.key, result.best.score),
        "trials": [(t.candidate.key, t.round, t.prediction, t.score) for t in result.trials],
        "nfe": result.spent.nfe,
        "stop_reason": result.stop_reason,
    }


def spread(of: int, count: int) -> list[int]:
    """At most `count` different numbers, evenly spread from 1 to `of`."""
    count = min(of, count)
    return [1 + at * of // count for at in range(count)]


def lines(report: Report) -> Iterator[str]:
    """The report as text."""
    yield f"{report['model']}: an unbroken run has {report['moments']} moments around its writes"
    for name, where in (("at_writes", "at a write"), ("at_random", "at a random time")):
        found = report[name]
        yield f"killed {where}: {found['differ']} of {found['runs']} end otherwise"
        for case in found["cases"]:
            if case["differs"]:
                yield f"  {case}"


def _counted(cases: list[Report]) -> Report:
    differ = sum(bool(case["differs"]) for case in cases)
    killed = sum(case["killed"] for case in cases)
    return {"runs": len(cases), "killed": killed, "differ": differ, "cases": cases}


# -- child processes ---------------------------------------------------------------------------


def _run(job: Job, kill_after: float | None = None) -> int:
    """Run a job in its own process and return the exit code, negative if it was killed."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(PRELOADED)
    child = processes.Process(target=draw, args=(job,))
    child.start()
    child.join(kill_after)
    child.kill()
    child.join()
    assert child.exitcode is not None
    return child.exitcode


def draw(job: Job) -> None:
    """Start a run, or resume the one in its folder, in this process."""
    start, writes = time.monotonic(), watch(job.die_at)
    if job.out.is_dir() and (found := list(job.out.glob(f"*/{FILE}"))):
        optimize_prompt(resume=found[0].parent)
    else:
        optimize_prompt(
            BRIEF,
            model=job.model,
            budget=Budget(renders=job.renders),
            generation=Generation(steps=job.steps, device="cpu"),
            out=job.out,
        )
    about = {"moments": writes.count, "seconds": round(time.monotonic() - start, 2)}
    (job.out / ABOUT).write_text(json.dumps(about))


def _run_dir(out: Path) -> Path:
    return next(out.glob(f"*/{FILE}")).parent
