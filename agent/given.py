"""Opens what a caller gives by name or as a Python object: model, judges, probe and proposer.

When a run resumes, names are opened again. An object has to be given again, and so does a judge
that is code or a service: no run folder decides whose code runs here or where pictures go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from promptprobe.agent import run_folder
from promptprobe.agent.doors.schemas import OptimizeRequest, ProbeRequest, checked
from promptprobe.agent.rewrite.guard import no_reading
from promptprobe.agent.rewrite.proposers import (
    CallersPrompts,
    OfflineProposer,
    Proposer,
    Rewrite,
    SeedsOnly,
)
from promptprobe.agent.run_folder import CALLABLE, RunSettings
from promptprobe.tools.endpoint.endpoint import LLM, Endpoint
from promptprobe.tools.endpoint.local_endpoint import PREFIX, LocalEndpoint
from promptprobe.tools.models.built_in import built_in
from promptprobe.tools.protocol import Tools
from promptprobe.tools.records import IN_MEMORY, Generation, Record, budget_of, lora_of
from promptprobe.tools.scorers.scorer import check_names
from promptprobe.tools.scorers.table import JOINT, name_of, parts_of, specs_of

DEFAULT_GENERATION = Generation()
APART = {"brief", "scorer", "judge", "generation"}
"""Fields of a request that are compared with a run's folder in ways of their own."""
Judge = str | Callable[..., Any]
"""A judge's name, or a function of (brief, image) -> number or `Score`."""
Judges = Judge | Sequence[Judge]
OpenTools = Callable[[OptimizeRequest | ProbeRequest], Tools]
"""Opens what a request names; may block for a long time."""


def opened(
    request: OptimizeRequest | ProbeRequest,
    model: Any = None,
    scorer: Judges | None = None,
    judges: Sequence[Judge] = (),
) -> Tools:
    """Open the tools that a request names, or those of a given model, scorer and judges.

    Raises:
        ValueError: something cannot be opened, or a run resumes without the object, code or service
            that it was started with.
    """
    if isinstance(request, RunSettings):
        _check_again(request, model, scorer, judges)
    named_judges = request.judge if isinstance(request, OptimizeRequest) else ()
    check_names([scorer or request.scorer or (), *(judges or named_judges)])
    from promptprobe.tools.models.model import open_toolbox  # takes seconds

    return open_toolbox(
        request.model if model is None else model,
        request.generation,
        scorer or request.scorer,
        request.probe,
        judges or named_judges,
    )


def _check_again(
    settings: RunSettings, model: Any, scorer: Judges | None, judges: Sequence[Judge]
) -> None:
    """Raise ValueError if what a run's folder cannot open is missing or has changed."""
    from promptprobe.tools.scorers.function import names_code

    if "model" in settings.objects and model is None:
        raise ValueError("this run was started with a model that is a Python object: give it again")
    given = {"scorer": specs_of(scorer or ()), "judge": tuple(judges)}
    known = {"scorer": parts_of(settings.scorer), "judge": settings.judge}
    for name, again in given.items():
        before = known[name]
        if not again and any(one.startswith(CALLABLE) for one in before):
            raise ValueError(
                f"this run was started with a {name} that is a Python object: give it again"
            )
        if not again and (code := list(filter(names_code, before))):
            raise ValueError(
                f"this run's folder names {code[0]!r} as its {name}, but a folder must not decide "
                f"whose code runs here or where pictures go: give the {name} again"
            )
        if again and (now := judge_names(again, name)) != before:
            was = " and ".join(map(repr, before)) or "none"
            raise ValueError(f"this run's {name} is {was}, got {' and '.join(map(repr, now))}")


def check_resumed(run_dir: Path, given: Mapping[str, Any], interactive: bool) -> None:
    """ValueError: arguments in Python, unless at their defaults, say otherwise than a run's folder.

    Args:
        given: arguments of an `OptimizeRequest`; an empty brief is that of the run.
        interactive: whether `approve` was given.
    """
    settings, brief = run_folder.read(run_dir), given["brief"]
    if not isinstance(brief, str) or brief.strip() not in ("", settings.brief):
        raise ValueError(
            f"{run_dir} is the run of {settings.brief!r}, got {brief!r:.200}: "
            "leave the brief out to resume, or start a new run without resume"
        )
    fields = OptimizeRequest.model_fields
    every = checked(OptimizeRequest, {**given, "brief": settings.brief})
    changed = {name for name, value in every if value != fields[name].default}
    check_as_asked(settings, every, changed, interactive)


def check_as_asked(
    settings: RunSettings, again: OptimizeRequest, fields: Set[str], interactive: bool
) -> None:
    """ValueError: a run that goes on is asked for something else than its folder says.

    Args:
        fields: those of `again` that were given. Judges are left to `opened`, which checks them.
        interactive: whether a person is to be asked.
    """
    given = {name: getattr(again, name) for name in fields - APART}
    asked = again.generation.model_fields_set
    given |= {name: now for name, now in again.generation if name in asked and now is not None}
    given |= {"interactive": True} if interactive else {}
    known = {**dict(settings), **dict(settings.generation)}
    for name, now in given.items():
        if _plain(name, now) != _plain(name, before := known[name]):
            raise ValueError(
                f"a run goes on as it was asked for: its {name} is {_shown(before)}, got "
                f"{_shown(now)}. Leave that out, or start a new run"
            )


def _plain(name: str, value: Any) -> Any:
    """A setting without what may be spelled in several ways."""
    if name == "budget":
        return budget_of(value)
    if name == "model":
        return value if built_in(value) else str(Path(value).resolve())
    if name == "lora":
        return [(str(Path(source).resolve()), weight) for source, weight in map(lora_of, value)]
    return value


def _shown(value: Any) -> str:
    plain = value.model_dump(exclude_none=True) if isinstance(value, Record) else value
    return f"{plain!r:.200}"


def choose_proposer(
    llm: LLM | None, prompts: Sequence[str] | None, rewrite: Rewrite, model: str
) -> Proposer:
    """The caller's prompts if given, else an LLM, else what the model offers.

    Raises:
        ValueError: both were given, or the LLM's endpoint is not set up.
    """
    if llm and rewrite == "off":
        raise ValueError('rewrite="off" and llm=... contradict each other: give one of them')
    if llm and prompts:
        raise ValueError("llm and prompts were both given: either an LLM rewrites, or you do")
    own = built_in(model)
    if prompts:
        return CallersPrompts(tuple(prompts))
    if rewrite == "off":
        return SeedsOnly("rewriting is off: only seeds are searched")
    if llm:
        from promptprobe.agent.rewrite.llm import LlmProposer

        endpoint = LocalEndpoint(llm) if llm.model.startswith(PREFIX) else Endpoint(llm)
        endpoint.check()
        return LlmProposer(endpoint, own.check_rewrite if own else no_reading)
    if own:
        return OfflineProposer(own.rewrites, own.rewriter)
    return SeedsOnly(
        "no LLM and no prompts were given, so only seeds are searched: "
        "set llm=NAME or prompts=[...] to have rewrites tried"
    )


def object_of(given: Any) -> Any:
    """The model or scorer if it is a Python object; None if it is a name."""
    return None if isinstance(given, str | Path | None) else given


def named(model: Any, scorer: Judges | None, probe: str | Path | None) -> dict[str, Any]:
    """The names that a request uses for them; the name of a Python object opens nothing.

    Raises:
        ValueError: a scorer is neither a name nor callable.
    """
    scorers = JOINT.join(map(str, judge_names(specs_of(scorer or ()), "scorer")))
    return {
        "model": str(model) if object_of(model) is None else IN_MEMORY,
        "scorer": scorers or None,
        "probe": None if probe is None else str(probe),
    }


def judges_of(given: Judges | None) -> tuple[Judge, ...]:
    """One judge or several, as a tuple; empty for None."""
    if given is None:
        return ()
    if isinstance(given, Sequence) and not isinstance(given, str):
        return tuple(given)
    return (given,)


def judge_names(judges: Sequence[Judge], role: str = "judge") -> tuple[str, ...]:
    """The names of judges in a request. Raises ValueError if one is neither name nor callable."""
    return tuple(_name(judge, role) for judge in judges)


def _name(given: Any, role: str) -> Any:
    if isinstance(given, str):
        return given
    if not callable(given):
        raise ValueError(
            f'{role} must be a name such as "sprites" or a callable, got {given!r:.80}'
        )
    return f"{CALLABLE}{name_of(given)}"
