"""What all commands share: options generated from records, and how a command ends.

Results go to stdout, progress and errors to stderr, so `--json` prints one clean object. All output
is JSON or passes through `plain`: a brief, a card or a model's name may contain anything.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from io import TextIOWrapper
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

from promptprobe.agent.doors.display import LINE, plain, results, results_apart
from promptprobe.agent.doors.schemas import OptimizeRequest, checked, in_words
from promptprobe.tools.models.built_in import PLUGINS
from promptprobe.tools.records import (
    BUDGETS,
    Budget,
    CallArguments,
    Generation,
    Record,
    budget_of,
)

DONE, FAILED, BAD_USAGE, INTERRUPTED = 0, 1, 2, 130
ANY_MODEL = f"{', '.join(PLUGINS)}, a diffusers folder, or a hub id"
CODES = "exit codes: 0 done, 1 failed, 2 bad usage, 130 interrupted"
CAPS = ("seconds", "llm_calls", "tokens", "usd")
BUDGET = "Budget (whatever is not given is planned)"
OWNER = "What agents get"
SEARCH, PICTURES = "Search", "Pictures (default: what the model is made for)"
SEVERAL = ("scorer",)
"""Options that may be repeated although the record's field is a single text."""
METAVARS = {"lora": "FILE_OR_ID[:WEIGHT]"}
"""Metavars of options whose type does not show what is expected."""

Command = Callable[..., int]
Json = Annotated[bool, typer.Option("--json", help="print one JSON object on stdout")]


# -- options from records ----------------------------------------------------------------------


def with_fields(
    record: type[Record], *names: str, panel: str, prefix: str = ""
) -> Callable[[Command], Command]:
    """Add fields of a record to a command's options, with their types and descriptions.

    The command finds them in `context.params` under their prefixed names; an option that was not
    given is None, so that the record's own default applies.
    """

    further = [_option(record, name, panel, prefix) for name in names]
    return lambda command: _with_options(command, further)


def _with_options(command: Command, further: Sequence[inspect.Parameter]) -> Command:
    own = inspect.signature(command, eval_str=True)

    @wraps(command)
    def called(**given: Any) -> int:
        return command(**{name: given[name] for name in own.parameters})

    parameters = [*own.parameters.values(), *further]
    called.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {one.name: one.annotation for one in parameters}
    return called


def _option(record: type[Record], name: str, panel: str, prefix: str) -> inspect.Parameter:
    field = record.model_fields[name]
    kind = _type_of(field.annotation)
    kind = list[kind] if name in SEVERAL else kind  # type: ignore[valid-type]
    name = prefix + name
    text, flags, metavar = str(field.description), [], METAVARS.get(name)
    if kind is bool:  # a flag without a --no- form
        flags, metavar = [f"--{name.replace('_', '-')}"], " "
    elif get_origin(kind) is list:
        text += "; may be repeated"
    elif isinstance(field.default, str | int) and field.default != "":
        text += f" ({field.default})"
    if text.startswith("None: "):  # means nothing on a command line
        text = text.replace("None", "default", 1)
    text = text.replace("[", "\\[")  # not markup
    shown = typer.Option(*flags, metavar=metavar, help=text, rich_help_panel=panel)
    return _parameter(name, Annotated[kind | None, shown])


def _parameter(name: str, kind: Any) -> inspect.Parameter:
    """An option that is None unless it is given."""
    return inspect.Parameter(
        name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=kind
    )


def _type_of(annotation: Any) -> Any:
    """A type that Typer can parse: the first member of a union, and a list for a tuple."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is tuple:
        return list[_type_of(parts[0])]  # type: ignore[misc]
    if origin is None or origin is Literal:
        return annotation
    return _type_of(next(part for part in parts if part is not NoneType))


with_model = with_fields(OptimizeRequest, "model", "scorer", "probe", "seed", panel=SEARCH)
ExtraOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        rich_help_panel=PICTURES,
        help="another argument for the pipeline's call; may be repeated: "
        + ", ".join(CallArguments.model_fields),
    ),
]
PICTURE_OPTIONS = tuple(name for name in Generation.model_fields if name != "extra")


def with_pictures(command: Command) -> Command:
    """Add the picture settings to a command's options; `generation_of` reads them."""
    own = [_option(Generation, name, PICTURES, "") for name in PICTURE_OPTIONS]
    return _with_options(command, [*own, _parameter("extra", ExtraOption)])


with_caps = with_fields(Budget, *CAPS, panel=BUDGET, prefix="max_")
BudgetOption = Annotated[
    str | None,
    typer.Option(
        metavar="RENDERS|light|medium|heavy",
        rich_help_panel=BUDGET,
        autocompletion=lambda: list(BUDGETS),
        help="denoising in renders' worth: light is 4, medium 8, heavy 24 (light)",
    ),
]
SeedsOption = Annotated[
    int | None, typer.Option(rich_help_panel=BUDGET, help="seeds per prompt in a round")
]
PromptsOption = Annotated[
    int | None, typer.Option(rich_help_panel=BUDGET, help="prompts per round")
]
KeepOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TEXT|COUNT",
        rich_help_panel=BUDGET,
        help="text of the brief that every prompt must contain; or, as a whole number that is not "
        "in the brief, how many candidates of a round to render in full",
    ),
]


def kept_and_budget(params: Mapping[str, Any], brief: str) -> tuple[list[str], Any]:
    """The text to keep and the budget from the options, for a request to validate.

    Raises:
        ValueError: the number of renders is invalid.
    """
    kept = params["keep"] or []
    counts = [one for one in kept if one.isdecimal() and one not in brief]
    fixed = {
        **{name: params[f"max_{name}"] for name in CAPS},
        **{name: params[name] for name in ("seeds", "prompts")},
        "keep": counts[-1] if counts else None,
    }
    given = {name: value for name, value in fixed.items() if value is not None}
    text, renders = [one for one in kept if one not in counts], params["budget"]
    if not given:
        return text, renders
    budget = checked(OptimizeRequest, {"brief": "a", "budget": renders}).budget
    return text, {"renders": budget_of(budget).renders, **given}


def generation_of(params: Mapping[str, Any]) -> dict[str, Any]:
    """The picture settings that were given, for a request to validate.

    Raises:
        ValueError: an --extra lacks a name or a value.
    """
    given = {n: params[n] for n in PICTURE_OPTIONS if params[n] not in (None, [], ())}
    extra = dict(map(_named_value, params["extra"] or ()))
    return given | ({"extra": extra} if extra else {})


def _named_value(text: str) -> tuple[str, Any]:
    """Parse NAME=VALUE; the value is read as JSON if it is valid, otherwise as text."""
    name, _, value = text.partition("=")
    if not (name and value):
        raise ValueError(f"--extra: expected NAME=VALUE, such as clip_skip=2, got {text[:80]!r}")
    try:
        return name, json.loads(value)
    except (ValueError, RecursionError):
        return name, value


# -- how a command ends ------------------------------------------------------------------------


def examples(*lines: str, end: str = CODES) -> str:
    """The end of a command's help, with one example a line."""
    shown = "\n".join(["examples:", *(f"  promptprobe {line}" for line in lines)])
    return f"{shown}\n\n{end}"


def ended(command: str, work: Callable[[], int], kept: Callable[[], str]) -> int:
    """Do a command's work; turn an error into one line on stderr and an exit code.

    Args:
        command: its name.
        work: returns the exit code.
        kept: says what remains of work that was cut short.
    """
    forgive_terminals()
    try:
        return flushed(work)
    except KeyboardInterrupt:
        say(f"promptprobe {command}: interrupted. {kept()}")
        return INTERRUPTED
    except ValueError as error:
        return fail(command, str(error), BAD_USAGE)
    except (OSError, RuntimeError, MemoryError) as error:
        return fail(command, f"{in_words(error)}. {kept()}", FAILED)


def flushed(work: Callable[[], int]) -> int:
    """The exit code of work whose output is flushed; a reader may close the pipe early."""
    try:
        with results_apart():
            code = work()
        sys.stdout.flush()
    except BrokenPipeError:  # `head`, for example
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    return code


def fail(command: str, message: str, code: int) -> int:
    """Print one line on stderr that says what went wrong, and return the exit code."""
    say(f"promptprobe {command}: error: {message}")
    return code


def say(text: str) -> None:
    """Print one line on stderr, without control characters."""
    sys.stderr.write(plain(" ".join(text.split()), LINE) + "\n")
    sys.stderr.flush()


def print_line(text: str) -> None:
    """Print one line of a result on stdout, without control characters."""
    results().write(plain(text, LINE) + "\n")


def forgive_terminals() -> None:
    """Show "?" for characters the terminal lacks, and slow libraries' progress bars in a pipe."""
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_MININTERVAL", "10")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


def print_json(found: object, indent: int | None = None) -> None:
    """Print one JSON object on stdout; JSON escapes control characters."""
    results().write(json.dumps(found, indent=indent) + "\n")
