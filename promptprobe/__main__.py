"""The command `promptprobe`, assembled from its subcommands.

It lives above the four folders, so that it may import both `agent` and `evals` while imports
between them run one way. A command's heavy imports wait until it is called.
"""

from __future__ import annotations

import re
import sys
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from promptprobe import __version__
from promptprobe.agent.doors import (
    commands,
    options,
    probes_commands,
    training_commands,
)
from promptprobe.agent.doors.cli import agents, doctor, judges, score
from promptprobe.agent.doors.schemas import explain
from promptprobe.agent.doors.ui import commands as ui_commands
from promptprobe.agent.report import commands as report_commands
from promptprobe.evals import cli
from promptprobe.tools.nearest import did_you_mean

app = typer.Typer(
    name="promptprobe",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=options.examples('optimize "a scarlet kitty next to a navy automobile"'),
)
app.add_typer(commands.app)
app.add_typer(agents.app)
app.add_typer(ui_commands.app)
app.add_typer(training_commands.app)
app.add_typer(judges.app)
app.add_typer(score.app)
app.add_typer(probes_commands.app, name="probes")
app.add_typer(report_commands.app)
app.add_typer(report_commands.runs_app, name="runs")
app.add_typer(cli.app, name="eval")
app.add_typer(doctor.app)


def _show_version(wanted: bool) -> None:
    if wanted:
        options.print_line(f"promptprobe {__version__}")
        raise typer.Exit


@app.callback()
def promptprobe(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="show the version"),
    ] = False,
) -> None:
    """Turn a request for a picture into the prompt and seed that draw it best.

    Many candidates are judged after a few denoising steps, and only the best are rendered.
    """


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code; `argv` excludes the program's name."""
    arguments = sys.argv[1:] if argv is None else argv
    try:
        code: int | None = app(arguments, prog_name="promptprobe", standalone_mode=False)
    except typer.TyperException as error:
        return _bad_usage(error)
    except ModuleNotFoundError as error:
        from promptprobe.tools.doctor import EXTRAS

        if error.name not in EXTRAS:
            raise
        extra = f"pip install 'promptprobe[{EXTRAS[error.name]}]'"
        options.say(f"promptprobe: {arguments[0]} needs {error.name}, not installed: {extra}")
        return options.FAILED
    return code or options.DONE


def _bad_usage(error: typer.TyperException) -> int:
    """Print one line on stderr: what was expected, what was given, and where to read more."""
    context, message = getattr(error, "ctx", None), error.format_message()
    if not message:  # help was requested and has been shown
        return error.exit_code
    path = context.command_path if context else "promptprobe"
    if isinstance(error.__cause__, ValidationError):  # says what was given, too
        hint = message.partition(":")[0]
        message = f"{hint}: {explain(error.__cause__)}"
    problem, meant, listed = _nearest(message.rstrip("."), error, context and context.command)
    options.say(f"{path}: error: {problem}{meant}.{listed} See `{path} --help`.")
    return error.exit_code


def _nearest(message: str, error: typer.TyperException, command: Any) -> tuple[str, str, str]:
    """The message, a hint at the nearest valid name, and the names to choose from."""
    if commands := getattr(command, "commands", None):
        problem = message.partition(". Did you mean")[0]
        given = problem.partition("'")[2].rstrip("'")
        return problem, did_you_mean(given, commands), f" Expected one of {', '.join(commands)}."
    if (option := getattr(error, "option_name", None)) and command:
        problem = message.partition(" (Possible options")[0]
        names = [name for one in command.params for name in one.opts]
        return problem, did_you_mean(option, names), ""
    problem, _, choices = message.rpartition(" is not one of ")
    given = problem.rpartition(": ")[2].strip("'")
    return message, did_you_mean(given, re.findall("'(.*?)'", choices)), ""


if __name__ == "__main__":
    sys.exit(main())
