"""`optimize_prompt` and `aoptimize_prompt`: check everything, open the model, run the loop.

Until every argument has been checked, nothing is spent, and nothing is written but the folder of
runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial, wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from promptprobe.agent import run_folder
from promptprobe.agent.context import NOBODY, Person
from promptprobe.agent.doors.schemas import OptimizeRequest, checked
from promptprobe.agent.events import OnEvent
from promptprobe.agent.given import (
    DEFAULT_GENERATION,
    Judges,
    OpenTools,
    check_resumed,
    choose_proposer,
    judge_names,
    judges_of,
    named,
    object_of,
    opened,
)
from promptprobe.agent.report.notebook import shown_in_notebook
from promptprobe.agent.result import OptimizationResult
from promptprobe.agent.rewrite.proposers import Proposer, Rewrite, SeedsOnly
from promptprobe.agent.rewrite.review import Approve
from promptprobe.agent.run_folder import RunSettings
from promptprobe.agent.runner import run_loop
from promptprobe.agent.search.choice import Choose
from promptprobe.tools.device import release_threads
from promptprobe.tools.endpoint.endpoint import LLM, check_endpoint
from promptprobe.tools.models.built_in import built_in
from promptprobe.tools.prompt_files import foreign_syntax
from promptprobe.tools.protocol import Tools
from promptprobe.tools.records import Budget, Generation, budget_of
from promptprobe.tools.scorers.table import parts_of

P = ParamSpec("P")
T = TypeVar("T")


def blocking(work: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """A blocking version of `work` with the same parameters; it also works in a notebook's loop.

    There it runs in its own thread, and so does `on_event`. Ctrl-C keeps the run.
    """

    @wraps(work)
    def waiting(*args: P.args, **kwargs: P.kwargs) -> T:
        return wait_for(work(*args, **kwargs))

    for name in ("__name__", "__qualname__"):
        setattr(waiting, name, getattr(work, name).replace("aoptimize", "optimize"))
    return waiting


async def aoptimize_prompt(
    brief: str = "",
    *,
    model: str | Path | Any = "sprites",
    generation: Generation = DEFAULT_GENERATION,
    llm: str | LLM | None = None,
    prompts: Sequence[str] | None = None,
    rewrite: Rewrite = "enrich",
    keep: Sequence[str] = (),
    scorer: Judges | None = None,
    judge: Judges | None = None,
    probe: str | Path | None = None,
    budget: str | float | Budget = "light",
    target: float | None = None,
    seed: int = 0,
    out: str | Path = "runs",
    on_event: OnEvent | None = None,
    approve: Approve | None = None,
    choose: Choose | None = None,
    resume: str | Path | None = None,
) -> OptimizationResult:
    """Find the prompt and seed that draw a brief best. Blocking work runs in a thread.

    Args:
        brief: what the picture should show; every score is against it.
        model: "sprites" or "sprites-flow", a diffusers folder, a hub id, or a loaded pipeline.
        generation: how images are made; a field that is None takes the model's default.
        llm: name of a model at an OpenAI-compatible endpoint (OPENAI_BASE_URL, OPENAI_API_KEY), or
            an `LLM` for its address, prices and other settings.
        prompts: your own rewrites, tried in their order instead of an LLM's.
        rewrite: how free an LLM is: "faithful" says the same in other words, "enrich" may add
            detail that contradicts nothing, "off" keeps the prompt and searches seeds.
        keep: text of the brief that every prompt must contain verbatim.
        scorer: what selects: the name of a judge (`promptprobe judges` lists them), or a callable
            (brief, image) -> number or `Score`. Several are combined as the mean of their scores,
            each on a scale from 0 to 1. None takes a built-in model's own scorer, and a CLIP for
            other models; the result's `scorer` names it.
        judge: one or more judges that only grade the finished pictures and select nothing. None
            takes a built-in model's own.
        probe: folder or hub id of a probe that `promptprobe train` made for this model and scorer.
            None takes the one shipped for Sprites, and previews for other models.
        budget: denoising in renders' worth: "light" is 4, "medium" 8, "heavy" 24, or any number; a
            `Budget` also caps seconds and the LLM.
        target: a score at which to stop; a picture that the scorer calls correct also stops a run.
        seed: the first seed; all others derive from it.
        out: folder of runs; this run gets its own folder in it.
        on_event: called with each event, in the loop's thread. A notebook shows the best so far
            without it.
        approve: awaited with a `Review` before a round with new prompts spends anything. The review
            shows each prompt and what changed. Return one answer per prompt: its text to approve
            it, another text to replace it, or None to veto it.
        choose: called (or awaited) with a `Choice` before a rung drops a candidate. The choice
            shows each candidate's preview and prediction. Return those to keep, or None to follow
            the plan.
        resume: folder of a run to continue. Its settings are read from there, and an argument that
            says otherwise is refused. Pass again only what was an object (a model, a scorer, a
            judge, `approve`), code or a service, and an `LLM` with its own address: no folder
            decides where your key goes.

    Raises:
        ValueError: an argument cannot be used; the message says what to do.
        OSError: `out` cannot be written.
    """
    own_llm = llm if isinstance(llm, LLM) else None
    on_event = shown_in_notebook(on_event)
    person = Person(approve, choose)
    judges = judges_of(judge)
    open_tools = partial(opened, model=object_of(model), scorer=scorer, judges=judges)
    given = {
        "brief": brief,
        **named(model, scorer, probe),
        "judge": judge_names(judges),
        "target": target,
        "generation": generation,
        "llm": own_llm.model if own_llm else llm,
        "prompts": prompts,
        "rewrite": rewrite,
        "keep": keep,
        "budget": budget,
        "seed": seed,
    }
    if resume is not None:
        check_resumed(Path(resume), given, approve is not None)
        return await go_on(
            Path(resume), on_event, open_tools=open_tools, llm=own_llm, person=person
        )
    request = checked(OptimizeRequest, given)
    return await start(
        request, Path(out), on_event, open_tools=open_tools, llm=own_llm, person=person
    )


optimize_prompt = blocking(aoptimize_prompt)


# -- what every door does ----------------------------------------------------------------------


async def start(
    request: OptimizeRequest,
    out: Path,
    on_event: OnEvent | None = None,
    *,
    open_tools: OpenTools = opened,
    llm: LLM | None = None,
    person: Person = NOBODY,
) -> OptimizationResult:
    """Run a request in its own folder under `out`; every door leads here.

    Args:
        request: the checked arguments.
        out: folder of runs.
        on_event: called with each event, in the loop's thread.
        open_tools: called in a thread, once the request has been checked.
        llm: settings of the LLM; None: only its name is known, from the request.
        person: who is asked while the run goes on.

    Raises:
        ValueError: something in the request cannot be used.
        OSError: `out` cannot be written.
    """
    _check_kept(request)
    _check_prices(request, llm)
    if own := built_in(request.model):
        own.check_brief(request.brief)  # fail before the model loads; called again for its warnings
    proposer = _proposer(request, llm)
    run_folder.check_folder(out)
    tools, warnings = await asyncio.to_thread(_open, open_tools, request, proposer)
    found = {
        "model": tools.model_name,
        "pipeline": tools.pipeline_name,
        "generation": tools.settings_used,
        "scorer": request.scorer or tools.scorer_name,
        "judge": request.judge or tools.judge_names,
        "budget": budget_of(request.budget),
        "endpoint": llm,
        "interactive": person.approve is not None,
        "versions": run_folder.versions(),
    }
    settings = RunSettings.model_validate({**dict(request), **found})
    run_dir = run_folder.create(out.resolve(), settings)
    return await _finished(run_dir, tools, proposer, on_event, warnings, person)


def check_openable(request: OptimizeRequest, llm: LLM | None = None) -> None:
    """Open what a request names, apart from its brief, and release it.

    Raises:
        ValueError: the request fails for every brief.
    """
    _check_prices(request, llm)
    _proposer(request, llm)
    opened(request)


async def go_on(
    run_dir: Path,
    on_event: OnEvent | None = None,
    *,
    open_tools: OpenTools = opened,
    llm: LLM | None = None,
    person: Person = NOBODY,
) -> OptimizationResult:
    """Continue the run in a folder with the settings it was started with.

    Raises:
        ValueError: this is not a run folder, or something that has to be given again is missing: a
            model or scorer that was an object, an LLM with its own address, or `approve`.
    """
    settings = run_folder.read(run_dir)
    if settings.interactive and person.approve is None:
        raise ValueError("this run asks a person before each round: give approve again")
    check_endpoint(settings.endpoint, llm)
    proposer = _proposer(settings, settings.endpoint)
    tools, warnings = await asyncio.to_thread(_open, open_tools, settings, proposer)
    asked = person if settings.interactive else Person(choose=person.choose)
    return await _finished(run_dir.resolve(), tools, proposer, on_event, warnings, asked)


async def _finished(
    run_dir: Path,
    tools: Tools,
    proposer: Proposer,
    on_event: OnEvent | None,
    warnings: Sequence[str],
    person: Person,
) -> OptimizationResult:
    from promptprobe.agent.report.page import save_report

    result = await run_loop(run_dir, tools, proposer, on_event, warnings, person)
    await asyncio.to_thread(result.draw_contact_sheet)
    await asyncio.to_thread(save_report, result)
    return result


def wait_for(work: Coroutine[Any, Any, T]) -> T:
    """Await `work` from code that cannot. Ctrl-C cancels it and is raised again."""
    release_threads()  # other threads compute from now on
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    return _in_another_thread(work)


def _in_another_thread(work: Coroutine[Any, Any, T]) -> T:
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any] | None]] = Future()

    async def cancellable() -> T:
        started.set_result((asyncio.get_running_loop(), asyncio.current_task()))
        return await work

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(asyncio.run, cancellable())
        try:
            return done.result()
        except KeyboardInterrupt:
            loop, task = started.result()
            if task is not None:
                loop.call_soon_threadsafe(task.cancel)
            raise


def _open(
    open_tools: OpenTools, request: OptimizeRequest, proposer: Proposer
) -> tuple[Tools, list[str]]:
    """The tools, and warnings about what may not be as the caller expects."""
    tools = open_tools(request)
    warnings = list(tools.check_brief(request.brief))
    warnings += filter(None, map(foreign_syntax, [request.brief, *(request.prompts or ())]))
    if request.rewrite != "off" and isinstance(proposer, SeedsOnly):
        warnings.append(proposer.source)
    for name in dict.fromkeys((tools.scorer_name, *parts_of(tools.scorer_name))):
        if name in tools.judge_names:
            warnings.append(
                f"selector and judge are the same ({name}): its grades add nothing to the scores; "
                "name another judge"
            )
    return tools, warnings


def _proposer(request: OptimizeRequest, llm: LLM | None) -> Proposer:
    if llm is None and request.llm is not None:
        llm = LLM(model=request.llm)
    return choose_proposer(llm, request.prompts, request.rewrite, request.model)


# -- checks that involve more than one field ---------------------------------------------------


def _check_kept(request: OptimizeRequest) -> None:
    if missing := [part for part in request.keep if part not in request.brief]:
        raise ValueError(
            f"keep must be text of the brief, which does not contain {missing[0]!r}: "
            "put it into the brief exactly as it should stay"
        )


def _check_prices(request: OptimizeRequest, llm: LLM | None) -> None:
    capped = isinstance(request.budget, Budget) and request.budget.usd is not None
    if capped and request.llm and (llm is None or llm.price_in is None or llm.price_out is None):
        raise ValueError(
            "a budget with usd needs the LLM's prices: give LLM(..., price_in=, price_out=), "
            "in US dollars per million tokens (0 if it costs nothing)"
        )
