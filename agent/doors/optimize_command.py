"""`promptprobe optimize`: one brief or a file of them, with live progress.

Results go to stdout, progress and errors to stderr, so `--json` leaves one clean object. Exit
codes: 0 done, 1 failed, 2 bad usage, 130 interrupted, with the run kept.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from promptprobe.agent.doors.options import (
    DONE,
    FAILED,
    add_model,
    add_pictures,
    command_parser,
    ended,
    forgive_terminals,
    generation_of,
    print_json,
)
from promptprobe.agent.doors.schemas import OptimizeRequest, checked
from promptprobe.tools.records import BUDGETS

if TYPE_CHECKING:
    from rich.console import Console

    from promptprobe.agent.events import Event
    from promptprobe.agent.result import OptimizationResult

EXAMPLES = """\
examples:
  promptprobe optimize "a scarlet kitty next to a navy automobile"
  promptprobe optimize "two red keys" --prompt "two keys, red" --prompt "a pair of red keys"
  promptprobe optimize "a blue house" --no-rewrite --budget medium     only search for seeds
  promptprobe optimize "a fox in snow" --model FOLDER --llm NAME       your own model and LLM
  promptprobe optimize --briefs briefs.txt --out results               goes on where it was killed
  promptprobe optimize --resume runs/20261123-120000-1a2b3c

An LLM is any OpenAI-compatible endpoint: set OPENAI_BASE_URL and OPENAI_API_KEY, and name it with
--llm. Briefs and prompts go to that endpoint; without --llm no text leaves this machine.

exit codes: 0 done, 1 failed, 2 bad usage, 130 interrupted, with the run kept
"""


def build_parser() -> argparse.ArgumentParser:
    """The options of `promptprobe optimize`."""
    parser = command_parser(
        "optimize",
        "Find the prompt and seed with which a text-to-image model draws BRIEF best.",
        EXAMPLES,
    )
    add = parser.add_argument
    add("brief", nargs="?", metavar="BRIEF", help="what the picture should show")
    add(
        "--briefs",
        type=Path,
        metavar="FILE",
        help="many briefs: text, CSV, TSV, JSON, JSONL",
    )
    add("--out", type=Path, metavar="DIR", help="folder of runs (default: runs)")
    add("--resume", type=Path, metavar="RUN", help="go on with an interrupted run, as it was asked")
    add("--json", action="store_true", help="print one JSON object on stdout")
    search = parser.add_argument_group("search")
    add_model(search)
    _add_search(search)
    add_pictures(parser)
    return parser


def _add_search(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--llm", metavar="NAME", help="LLM that proposes rewrites")
    add(
        "--prompt",
        action="append",
        metavar="P",
        help="a rewrite of your own, instead of an LLM's; may be repeated",
    )
    add("--no-rewrite", action="store_true", help="keep the wording, only search for seeds")
    add(
        "--keep",
        action="append",
        default=[],
        metavar="TEXT",
        help="text that every prompt holds verbatim, such as a LoRA trigger; may be repeated",
    )
    add("--budget", choices=list(BUDGETS), default="light", help="how much to try (light)")


def request_of(options: argparse.Namespace, brief: str) -> OptimizeRequest:
    """The options as the request that all doors share.

    Raises:
        ValueError: an option is out of bounds.
    """
    return checked(
        OptimizeRequest,
        {
            "brief": brief,
            "prompts": options.prompt,
            "rewrite": not options.no_rewrite,
            "generation": generation_of(options),
            **{
                n: getattr(options, n)
                for n in ("keep", "model", "llm", "scorer", "probe", "budget", "seed")
            },
        },
    )


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Options that exclude or need one another; ends with exit code 2."""
    given = [options.brief is not None, options.briefs is not None, options.resume is not None]
    if sum(given) != 1:
        parser.error("expected one of BRIEF, --briefs FILE and --resume RUN")
    if options.briefs is not None and options.out is None:
        parser.error("--briefs needs --out DIR, where results.jsonl and the runs go")
    if options.briefs is not None and options.prompt:
        parser.error("--prompt is a rewrite of one brief and cannot go with --briefs")


def main(argv: list[str]) -> int:
    """Run the command; returns its exit code."""
    forgive_terminals()
    parser = build_parser()
    options = parser.parse_args(argv)
    _check(parser, options)
    call = Call(options)
    return ended("optimize", call.many if options.briefs is not None else call.one, call.kept)


class Call:
    """One call of the command: its options, where it shows progress, and the run in flight."""

    def __init__(self, options: argparse.Namespace) -> None:
        from rich.console import Console

        self.options = options
        self.console: Console = Console(stderr=True)
        self.run_dir: Path | None = options.resume

    def one(self) -> int:
        """Optimize one brief, or go on with a run."""
        from promptprobe.agent import run_folder
        from promptprobe.agent.doors import display

        options, resume = self.options, self.options.resume
        brief = options.brief if resume is None else run_folder.read(resume).brief
        request = request_of(options, brief)
        result = self._run(request, options.out or Path("runs"), resume, "")
        if result.stop_reason == "cancelled":
            raise KeyboardInterrupt
        if options.json:
            print_json(result.summary())
        else:
            display.show_result(result)
        return DONE

    def many(self) -> int:
        """Optimize the briefs of a file."""
        from promptprobe.agent import batch
        from promptprobe.agent.doors import display

        options = self.options
        items, notice = batch.read_briefs(options.briefs)
        if notice:
            self.console.print(display.plain(notice), markup=False, highlight=False, soft_wrap=True)
        results = batch.Results(options.out)
        skipped = sum(map(results.has, items))
        if skipped:
            self.console.print(f"{skipped} of {len(items)} briefs are done already")

        def optimize(number: int, request: OptimizeRequest, runs: Path) -> OptimizationResult:
            title = f"[{number}/{len(items)}] "
            return self._run(request, runs, batch.in_flight(runs), title)

        failed = 0
        for item, error in batch.run_batch(
            items, options.out, request_of(options, "the brief of each line"), optimize
        ):
            failed += bool(error)
            said = f"failed: {error}" if error else "done"
            line = f"[{item.id}] {display.plain(item.brief, 60)}: {display.plain(said)}"
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)
        counts = {"briefs": len(items), "skipped": skipped, "failed": failed}
        if options.json:
            print_json({**counts, "results": str(results.path)})
        else:
            told = ", ".join(f"{number} {name}" for name, number in counts.items())
            sys.stdout.write(f"{told}; one row a brief in {results.path}\n")
        return FAILED if failed else DONE

    def _run(
        self, request: OptimizeRequest, out: Path, resume: Path | None, title: str
    ) -> OptimizationResult:
        from promptprobe.agent.doors import display
        from promptprobe.agent.doors.session import run_request

        with display.live(self.console, title) as show:

            def watch(event: Event) -> None:
                self.run_dir = getattr(event, "run_dir", self.run_dir)
                show(event)

            return run_request(request, out, watch, resume)

    def kept(self) -> str:
        """How to go on with what is on the disk."""
        if self.options.briefs is not None:
            return "What is done is kept: give the same command again to go on"
        if self.run_dir is None:
            return "No run was started"
        run = shlex.quote(str(self.run_dir))
        return f"The run is kept; go on with: promptprobe optimize --resume {run}"
