"""The command `promptprobe`: which door leads where.

Stands above the four folders, so that it may name `agent` and `evals` side by side while imports
between them keep running one way. Each command is imported only when it is called.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

from promptprobe import __version__

COMMANDS = {
    "optimize": (
        "promptprobe.agent.doors.optimize_command",
        "find the prompt and seed that draw a brief best",
    ),
    "probe": (
        "promptprobe.agent.doors.probe_command",
        "judge seeds and wordings by their first steps",
    ),
    "probes": ("promptprobe.agent.doors.probes_command", "list, show and verify trained probes"),
    "train": (
        "promptprobe.agent.doors.train_command",
        "make a probe for a model, from prompts and a scorer",
    ),
    "pairs": (
        "promptprobe.agent.doors.pairs_command",
        "preference pairs for DPO from what runs have probed",
    ),
    "eval": ("promptprobe.evals.cli", "measure the model, the probe and the gain"),
    "mcp": ("promptprobe.agent.doors.mcp_server", "serve agents over MCP (stdio)"),
    "tools": ("promptprobe.agent.doors.schemas", "print the tool schemas for an agent of your own"),
}

EXTRAS = {"mcp": "mcp", "pyarrow": "train"}
"""Packages that a plain install leaves out, and the extra that brings them."""

HELP = f"""usage: promptprobe COMMAND [options]

Turns a request for a picture into the prompt and seed that draw it best: many
candidates are judged after a few denoising steps, and only the best are rendered.

commands:
{chr(10).join(f"  {name:<10}{about}" for name, (_, about) in COMMANDS.items())}

options:
  -h, --help   show this help; `promptprobe COMMAND --help` says more
  --version    show the version

try:
  promptprobe optimize "a scarlet kitty next to a navy automobile"

exit codes: 0 done, 1 failed, 2 bad usage, 130 interrupted, with the run kept
"""


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code; `argv` without the program's name."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments:
        sys.stderr.write(HELP)
        return 2
    command = arguments[0]
    if command in ("-h", "--help", "help"):
        sys.stdout.write(HELP)
        return 0
    if command == "--version":
        sys.stdout.write(f"promptprobe {__version__}\n")
        return 0
    if command not in COMMANDS:
        known = ", ".join(COMMANDS)
        sys.stderr.write(f"promptprobe: unknown command {command!r}; expected one of {known}\n")
        return 2
    try:
        code: int = import_module(COMMANDS[command][0]).main(arguments[1:])
        sys.stdout.flush()
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        extra = f"pip install 'promptprobe[{EXTRAS[error.name]}]'"
        sys.stderr.write(f"promptprobe: {command} needs {error.name}, not installed: {extra}\n")
        return 1
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


if __name__ == "__main__":
    sys.exit(main())
