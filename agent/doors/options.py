"""What the commands share: options of model and pictures, and how a command ends.

Results go to stdout, progress and errors to stderr, so `--json` leaves one clean object.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from io import TextIOWrapper
from typing import Any

from promptprobe.tools.records import Generation

DONE, FAILED, BAD_USAGE, INTERRUPTED = 0, 1, 2, 130


def whole(most: int) -> Callable[[str], int]:
    """A type of option: a whole number from 1 to `most`."""

    def number(text: str) -> int:
        if text.isdecimal() and 1 <= int(text) <= most:
            return int(text)
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 to {most}, got {text!r}")

    return number


def command_parser(name: str, description: str, epilog: str) -> argparse.ArgumentParser:
    """A parser of `promptprobe NAME`; the epilog is shown as it is laid out."""
    return argparse.ArgumentParser(
        prog=f"promptprobe {name}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def add_model(group: argparse._ArgumentGroup) -> None:
    """Who draws, who judges, and from which seed on."""
    add = group.add_argument
    add(
        "--model",
        default="sprites",
        metavar="M",
        help="sprites (the default) or sprites-flow, both built in, or a diffusers folder or hub "
        "id of a Stable Diffusion, FLUX.1, Qwen-Image, Z-Image or PixArt-Sigma pipeline",
    )
    add(
        "--scorer",
        metavar="S",
        help="sprites, clip:sprites (its small CLIP), critic:sprites (how well formed), or "
        "clip:FOLDER_OR_HUB_ID (default: the model's)",
    )
    add(
        "--probe",
        metavar="P",
        help="a probe that `promptprobe train` made (DIR/probe), or the hub id of one",
    )
    add("--seed", type=int, default=0, metavar="N", help="first seed (0)")


def add_pictures(parser: argparse.ArgumentParser) -> None:
    """How pictures are made: a `Generation`, field by field."""
    add = parser.add_argument_group("pictures (default: what the model is made for)").add_argument
    add("--steps", type=int, metavar="N", help="denoising steps of a full render (25)")
    add("--guidance", type=float, metavar="G", help="classifier-free guidance scale")
    add("--height", type=int, metavar="PX")
    add("--width", type=int, metavar="PX")
    add("--negative-prompt", metavar="TEXT")
    add("--dtype", choices=["float32", "bfloat16", "float16"])
    add("--device", metavar="D", help="cpu, cuda, cuda:1, mps")


def generation_of(options: argparse.Namespace) -> dict[str, Any]:
    """What `add_pictures` has read, for a request to check."""
    return {name: getattr(options, name) for name in Generation.model_fields}


def ended(command: str, work: Callable[[], int], kept: Callable[[], str]) -> int:
    """Do a command's work; what goes wrong is one line on stderr, and the exit code.

    Args:
        command: its name.
        work: returns the exit code.
        kept: says what is left of work that was cut short.
    """
    try:
        return work()
    except KeyboardInterrupt:
        sys.stderr.write(f"promptprobe {command}: interrupted. {kept()}\n")
        return INTERRUPTED
    except ValueError as error:
        return fail(command, str(error), BAD_USAGE)
    except (OSError, RuntimeError) as error:
        return fail(command, f"{error}. {kept()}", FAILED)


def fail(command: str, message: str, code: int) -> int:
    """Say on one line of stderr what went wrong; returns the exit code."""
    line = " ".join(message.split())
    sys.stderr.write(f"promptprobe {command}: error: {line}\n")
    return code


def forgive_terminals() -> None:
    """A terminal that lacks a letter shows "?"."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


def print_json(found: dict[str, Any]) -> None:
    """One object on one line of stdout."""
    sys.stdout.write(json.dumps(found) + "\n")
