"""What the commands share: options of model and pictures, and how a command ends.

Results go to stdout, progress and errors to stderr, so `--json` leaves one clean object. All that
goes there passes `plain` or is JSON: a brief, a card or a model's name may hold anything.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from io import TextIOWrapper
from typing import Annotated, Any, Literal

import typer

from promptprobe.agent.doors.display import plain
from promptprobe.tools.records import Generation

DONE, FAILED, BAD_USAGE, INTERRUPTED = 0, 1, 2, 130
LINE = 2000
"""Characters that are said at once."""
SEARCH = "Search"
PICTURES = "Pictures (default: what the model is made for)"
CODES = "exit codes: 0 done, 1 failed, 2 bad usage, 130 interrupted"

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]

# -- who draws, who judges, and from which seed on ---------------------------------------------

Model = Annotated[
    str,
    typer.Option(
        metavar="M",
        rich_help_panel=SEARCH,
        help="sprites or sprites-flow, both built in, or a diffusers folder or hub id of a Stable "
        "Diffusion, FLUX.1, Qwen-Image, Z-Image or PixArt-Sigma pipeline.",
    ),
]
Scorer = Annotated[
    str | None,
    typer.Option(
        metavar="S",
        rich_help_panel=SEARCH,
        help="sprites, clip:sprites (its small CLIP), critic:sprites (how well formed), or "
        "clip:FOLDER_OR_HUB_ID (default: the model's).",
    ),
]
Probe = Annotated[
    str | None,
    typer.Option(
        metavar="P",
        rich_help_panel=SEARCH,
        help="A probe that `promptprobe train` made (DIR/probe), or the hub id of one.",
    ),
]
Seed = Annotated[int, typer.Option(metavar="N", rich_help_panel=SEARCH, help="First seed.")]

# -- how pictures are made: a `Generation`, field by field -------------------------------------


def _picture(metavar: str, help: str | None = None) -> Any:
    return typer.Option(metavar=metavar, help=help, rich_help_panel=PICTURES)


Steps = Annotated[int | None, _picture("N", "Denoising steps of a full render (25).")]
Guidance = Annotated[float | None, _picture("G", "Classifier-free guidance scale.")]
Height = Annotated[int | None, _picture("PX")]
Width = Annotated[int | None, _picture("PX")]
NegativePrompt = Annotated[str | None, _picture("TEXT")]
Dtype = Annotated[
    Literal["float32", "bfloat16", "float16"] | None,
    _picture("T", "float32, bfloat16 or float16."),
]
Device = Annotated[str | None, _picture("D", "cpu, cuda, cuda:1 or mps.")]


def generation_of(params: Mapping[str, Any]) -> dict[str, Any]:
    """The options of pictures that were given, for a request to check."""
    return {n: params[n] for n in Generation.model_fields if params[n] is not None}


# -- how a command ends ------------------------------------------------------------------------


def examples(*lines: str, end: str = CODES) -> str:
    """The end of a command's help, a line each."""
    shown = "\n".join(["examples:", *(f"  promptprobe {line}" for line in lines)])
    return f"{shown}\n\n{end}"


def ended(command: str, work: Callable[[], int], kept: Callable[[], str]) -> int:
    """Do a command's work; what goes wrong is one line on stderr, and the exit code.

    Args:
        command: its name.
        work: returns the exit code.
        kept: says what is left of work that was cut short.
    """
    forgive_terminals()
    try:
        return flushed(work)
    except KeyboardInterrupt:
        say(f"promptprobe {command}: interrupted. {kept()}")
        return INTERRUPTED
    except ValueError as error:
        return fail(command, str(error), BAD_USAGE)
    except (OSError, RuntimeError) as error:
        return fail(command, f"{error}. {kept()}", FAILED)


def flushed(work: Callable[[], int]) -> int:
    """The exit code of work whose output has been read, or whose reader has seen enough."""
    try:
        code = work()
        sys.stdout.flush()
    except BrokenPipeError:  # `head`, for example
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    return code


def fail(command: str, message: str, code: int) -> int:
    """Say on one line of stderr what went wrong; returns the exit code."""
    say(f"promptprobe {command}: error: {message}")
    return code


def say(text: str) -> None:
    """One line on stderr, without control characters."""
    sys.stderr.write(plain(" ".join(text.split()), LINE) + "\n")
    sys.stderr.flush()


def print_line(text: str) -> None:
    """One line of a result on stdout, without control characters."""
    sys.stdout.write(plain(text, LINE) + "\n")


def forgive_terminals() -> None:
    """A terminal that lacks a letter shows "?"."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


def print_json(found: object, indent: int | None = None) -> None:
    """One object on stdout; control characters are escaped by JSON's rules."""
    sys.stdout.write(json.dumps(found, indent=indent) + "\n")
