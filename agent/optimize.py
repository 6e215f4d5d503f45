"""`optimize_prompt` and `aoptimize_prompt`: check everything, open the model, run the loop.

Nothing is spent, and nothing written but the folder of runs, before all that the caller gave has
been found usable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

from promptprobe.agent import run_folder
from promptprobe.agent.events import OnEvent
from promptprobe.agent.result import OptimizationResult
from promptprobe.agent.rewrite.endpoint import DEFAULT_KEY, LLM
from promptprobe.agent.rewrite.guard import check_text
from promptprobe.agent.rewrite.proposers import SeedsOnly, choose_proposer
from promptprobe.agent.run_folder import RunSettings
from promptprobe.agent.runner import run_loop
from promptprobe.tools.records import BUDGETS, MAX_SEED, Budget, Generation

MAX_PROMPTS = 256
DEFAULT_GENERATION = Generation()


async def aoptimize_prompt(
    brief: str = "",
    *,
    model: str | Path | Any = "sprites",
    generation: Generation = DEFAULT_GENERATION,
    llm: str | LLM | None = None,
    prompts: Sequence[str] | None = None,
    rewrite: bool | Literal["off"] = True,
    keep: Sequence[str] = (),
    scorer: str | Callable[..., Any] | None = None,
    probe: str | Path | None = None,
    budget: str | Budget = "light",
    seed: int = 0,
    out: str | Path = "runs",
    on_event: OnEvent | None = None,
    resume: str | Path | None = None,
) -> OptimizationResult:
    """Find the prompt and seed that draw a brief best. Blocking work runs in a thread.

    Args:
        brief: what the picture should show; every score is against it.
        model: "sprites" or "sprites-flow", a diffusers folder, a hub id, or a loaded pipeline.
        generation: how images are made; None in a field takes the model's default.
        llm: name of a model at an OpenAI-compatible endpoint (OPENAI_BASE_URL, OPENAI_API_KEY), or
            an `LLM` with more to say of it.
        prompts: your own rewrites, tried in their order instead of an LLM's.
        rewrite: "off" keeps the prompt and searches seeds.
        keep: text of the brief that every prompt must hold verbatim.
        scorer: "sprites", "clip:FOLDER_OR_ID" or a callable; None takes the model's own.
        probe: folder or hub id of a probe that `promptprobe train` made for model and scorer; None
            takes the one that is shipped for Sprites, and previews for other models.
        budget: "light", "medium", "heavy", or a `Budget`.
        seed: the first seed; all others derive from it.
        out: folder of runs; this one gets a folder of its own there.
        on_event: called with each event, in the thread of the loop.
        resume: folder of a run to go on with. What was asked for is read from there; only a model
            or scorer that is an object, and an LLM with an address of its own, must be given again:
            no folder decides where your key goes.

    Raises:
        ValueError: something given cannot be used; the message says what to do.
        OSError: `out` cannot be written.
    """
    if resume is None:
        settings = _settings(
            brief, model, generation, llm, prompts, rewrite, keep, scorer, probe, budget, seed
        )
    else:
        settings = _resumed(Path(resume), brief)
        model = _given_again("model", settings.model, model, DEFAULT_MODEL)
        scorer = _given_again("scorer", settings.scorer, scorer, None)
        _check_address(settings.llm, llm)
        generation = settings.generation
    proposer = choose_proposer(settings.llm, settings.prompts, settings.rewrite, settings.model)
    if resume is None:
        run_folder.check_folder(Path(out))
    tools = await asyncio.to_thread(_open, model, generation, scorer, settings.probe)
    warnings = await asyncio.to_thread(tools.check_brief, settings.brief)
    if settings.rewrite and isinstance(proposer, SeedsOnly):
        warnings = [*warnings, proposer.source]
    if resume is None:
        settings = settings.model_copy(
            update={
                "model": tools.model_name,
                "pipeline": tools.pipeline_name,
                "generation": tools.settings_used,
            }
        )
        run_dir = run_folder.create(Path(out).resolve(), settings)
    else:
        run_dir = Path(resume).resolve()
    return await run_loop(run_dir, tools, proposer, on_event, warnings)


def optimize_prompt(brief: str = "", **options: Any) -> OptimizationResult:
    """`aoptimize_prompt` for code that does not await; inside a notebook's loop too.

    There it runs in a thread of its own, and so does `on_event`. Ctrl-C keeps the run.
    """
    work = aoptimize_prompt(brief, **options)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    return _beside_a_running_loop(work)


def _beside_a_running_loop(work: Any) -> OptimizationResult:
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any] | None]] = Future()

    async def cancellable() -> OptimizationResult:
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


def _open(model: Any, generation: Generation, scorer: Any, probe: str | None) -> Any:
    from promptprobe.tools.models.model import open_toolbox

    return open_toolbox(model, generation, scorer, probe)


# -- checks ------------------------------------------------------------------------------------

DEFAULT_MODEL = "sprites"


def _settings(
    brief: object, model: Any, generation: object, llm: object, prompts: object, rewrite: object,
    keep: object, scorer: Any, probe: object, budget: object, seed: object,
) -> RunSettings:  # fmt: skip
    text = check_text(brief, "the brief")
    if not isinstance(generation, Generation):
        raise ValueError(f"generation must be a Generation(steps=...), got {generation!r:.80}")
    if rewrite not in (True, False, "off"):
        raise ValueError(f'rewrite must be True or "off", got {rewrite!r:.80}')
    if probe is not None:
        probe = check_text(str(probe), "probe")
    kept = _texts(keep, "keep")
    if missing := [part for part in kept if part not in text]:
        raise ValueError(
            f"keep must be text of the brief, which does not hold {missing[0]!r}: "
            "put it into the brief, exactly as it should stay"
        )
    return RunSettings(
        brief=text,
        model=str(model) if isinstance(model, str | Path) else type(model).__name__,
        generation=generation,
        scorer=scorer if isinstance(scorer, str | None) else _named(scorer),
        probe=probe,
        llm=_llm(llm),
        prompts=None if prompts is None else _texts(prompts, "prompts", least=1),
        rewrite=rewrite is True,
        keep=kept,
        budget=_budget(budget),
        seed=_seed(seed),
        versions=run_folder.versions(),
    )


def _texts(values: object, what: str, least: int = 0) -> tuple[str, ...]:
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise ValueError(f'{what} must be a list of texts, such as ["..."], got {values!r:.80}')
    if not least <= len(values) <= MAX_PROMPTS:
        raise ValueError(f"{what} must have {least} to {MAX_PROMPTS} texts, got {len(values)}")
    return tuple(check_text(value, f"{what}[{n}]") for n, value in enumerate(values))


def _budget(budget: object) -> Budget:
    if isinstance(budget, Budget):
        return budget
    if isinstance(budget, str) and budget in BUDGETS:
        return BUDGETS[budget]
    raise ValueError(f"budget must be one of {', '.join(BUDGETS)}, or a Budget, got {budget!r:.80}")


def _llm(llm: object) -> LLM | None:
    if llm is None or isinstance(llm, LLM):
        return llm
    return LLM(model=check_text(llm, "llm"))


def _check_address(stored: LLM | None, given: object) -> None:
    """A stranger's run folder may name any address and any variable for the key."""
    if stored is None or (stored.base_url is None and stored.api_key_env == DEFAULT_KEY):
        return
    again = given if isinstance(given, LLM) else None
    if again is None or (again.base_url, again.api_key_env) != (
        stored.base_url,
        stored.api_key_env,
    ):
        raise ValueError(
            f"this run asks its LLM at {stored.base_url!r} with the key in {stored.api_key_env}: "
            "if you trust that address with your key, give the same llm again"
        )


def _seed(seed: object) -> int:
    if isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed <= MAX_SEED:
        return seed
    raise ValueError(f"seed must be a whole number from 0 to {MAX_SEED}, got {seed!r:.80}")


def _named(scorer: object) -> str:
    if not callable(scorer):
        raise ValueError(
            f'scorer must be a name such as "sprites" or a callable, got {scorer!r:.80}'
        )
    return f"callable {getattr(scorer, '__name__', type(scorer).__name__)}"


def _resumed(run_dir: Path, brief: object) -> RunSettings:
    settings = run_folder.read(run_dir)
    if isinstance(brief, str) and brief.strip() in ("", settings.brief):
        return settings
    raise ValueError(
        f"{run_dir} is the run of {settings.brief!r}, and {brief!r:.200} was given: "
        "leave the brief out to resume, or start a new run without resume"
    )


def _given_again(what: str, named: str | None, given: Any, default: Any) -> Any:
    """What a run was started with, by name; an object has to be given again."""
    if not isinstance(given, str | Path | None):
        return given
    by_name = what == "scorer" and (named or "").startswith("callable ")
    if by_name or (what == "model" and named == _in_memory()):
        raise ValueError(
            f"this run was started with a {what} that is a Python object: give it again"
        )
    return named if named is not None else default


def _in_memory() -> str:
    from promptprobe.tools.pictures.png import IN_MEMORY

    return IN_MEMORY
