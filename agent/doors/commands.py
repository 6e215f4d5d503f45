"""`promptprobe optimize | probe`: the commands that draw.

Options are declared here; a command's implementation is imported when it is called, so that help is
fast. Exit codes: 0 done, 1 failed, 2 bad usage, 130 interrupted, with the run kept.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from promptprobe.agent.doors import options as o
from promptprobe.agent.doors.schemas import MAX_SEEDS, OptimizeRequest, ProbeRequest, checked
from promptprobe.agent.rewrite.proposers import Rewrite
from promptprobe.tools.endpoint.endpoint import LLM

if TYPE_CHECKING:
    from promptprobe.agent.events import Event
    from promptprobe.agent.result import OptimizationResult

ENDPOINT = tuple(name for name in LLM.model_fields if name != "model")
REWRITING = "LLM (settings beyond its name)"
SHARED = ("model", "scorer", "judge", "probe", "target", "seed", "llm")
OPTIMIZE_EXAMPLES = o.examples(
    'optimize "a scarlet kitty next to a navy automobile"',
    'optimize "two red keys" --prompt "a pair of red keys"',
    'optimize "a blue house" --rewrite off --budget medium',
    'optimize "a fox in snow" --model FOLDER --llm NAME',
    "optimize --briefs briefs.txt --out results",
    "optimize --resume runs/20261123-120000-1a2b3c",
    end="An LLM is any OpenAI-compatible endpoint: set OPENAI_BASE_URL and OPENAI_API_KEY, and "
    "name it with --llm. Briefs and prompts go to that endpoint, briefs and pictures to judges "
    f"vlm: and http:; nothing else leaves this machine.\n\n{o.CODES}, with the run kept",
)
PROBE_EXAMPLES = o.examples(
    'probe "a red cat left of a blue car"',
    'probe "a red cat left of a blue car" --seeds 16 --json',
    'probe "two red keys" --prompt "a pair of red keys" --prompt "two keys"',
    'probe "a fox in snow" --model FOLDER --heatmaps maps',
)
Prompts = Annotated[
    list[str] | None,
    Option("--prompt", rich_help_panel=o.SEARCH, help="your own wording; may be repeated"),
]
app = typer.Typer()


# -- optimize ----------------------------------------------------------------------------------


@app.command(epilog=OPTIMIZE_EXAMPLES)
@o.with_pictures
@o.with_fields(LLM, *ENDPOINT, panel=REWRITING, prefix="llm_")
@o.with_caps
@o.with_fields(OptimizeRequest, *SHARED, panel=o.SEARCH)
def optimize(
    context: typer.Context,
    brief: Annotated[
        str | None, Argument(metavar="BRIEF", help="what the picture should show")
    ] = None,
    briefs: Annotated[
        Path | None, Option(help="many briefs: a file of text, CSV, TSV, JSON or JSONL")
    ] = None,
    out: Annotated[Path | None, Option(help="folder of runs (runs)")] = None,
    resume: Annotated[
        Path | None, Option(help="folder of an interrupted run, to continue with its settings")
    ] = None,
    json: o.Json = False,
    interactive: Annotated[
        bool, Option("--interactive", help="approve, edit or veto each new prompt before a round")
    ] = False,
    prompt: Prompts = None,
    rewrite: Annotated[
        Rewrite | None,
        Option(
            rich_help_panel=o.SEARCH,
            help="off keeps the wording; faithful adds nothing; enrich may add detail (enrich)",
        ),
    ] = None,
    budget: o.BudgetOption = None,
    seeds: o.SeedsOption = None,
    prompts: o.PromptsOption = None,
    keep: o.KeepOption = None,
) -> int:
    """Find the prompt and seed with which a text-to-image model draws BRIEF best."""
    if (brief is not None) + (briefs is not None) + (resume is not None) != 1:
        context.fail("expected one of BRIEF, --briefs FILE and --resume RUN")
    if briefs is not None and out is None:
        context.fail("--briefs needs --out DIR, where results.jsonl and the runs go")
    if briefs is not None and prompt:
        context.fail("--prompt is a rewrite of one brief and cannot go with --briefs")
    call = Call(context.params)
    return o.ended("optimize", call.one if briefs is None else call.many, call.kept)


def optimize_request(params: Mapping[str, Any], brief: str) -> OptimizeRequest:
    """The request that all doors share, from the options.

    Raises:
        ValueError: an option is out of bounds.
    """
    kept, budget = o.kept_and_budget(params, brief)
    given = {
        **{name: params[name] for name in SHARED},
        "brief": brief,
        "keep": kept or None,
        "budget": budget,
        "prompts": params["prompt"] or None,
        "rewrite": params["rewrite"],
        "generation": o.generation_of(params),
    }
    return checked(OptimizeRequest, given)


def llm_of(params: Mapping[str, Any]) -> LLM | None:
    """Settings of the LLM from the options; None if only its name is given.

    Raises:
        ValueError: an option is out of bounds, or there is no LLM.
    """
    values = {name: params[f"llm_{name}"] for name in ENDPOINT}
    given = {name: value for name, value in values.items() if value is not None}
    if given and not params["llm"]:
        options = ", ".join(f"--llm-{name.replace('_', '-')}" for name in given)
        raise ValueError(f"{options}: for which LLM? Name it with --llm")
    return checked(LLM, {"model": params["llm"], **given}) if given else None


class Call:
    """One call of `optimize`: its options, where it shows progress, and the run in flight."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        from rich.console import Console

        self.params = params
        self.console = Console(stderr=True)
        self.run_dir: Path | None = params["resume"]

    def one(self) -> int:
        """Optimize one brief, or resume a run."""
        from promptprobe.agent import run_folder
        from promptprobe.agent.doors import display
        from promptprobe.agent.given import check_as_asked

        params, resume = self.params, self.params["resume"]
        before = None if resume is None else run_folder.read(resume)
        request = optimize_request(params, before.brief if before else params["brief"])
        if before:
            check_as_asked(before, request, request.model_fields_set, params["interactive"])
        result = self._run(request, params["out"] or Path("runs"), resume, "")
        if result.stop_reason == "cancelled":
            raise KeyboardInterrupt
        if params["json"]:
            o.print_json(result.summary())
        else:
            display.show_result(result)
        return o.FAILED if result.stop_reason == "scorer failed" else o.DONE

    def many(self) -> int:
        """Optimize the briefs of a file."""
        from promptprobe.agent import batch
        from promptprobe.agent.doors.cli.progress import waiting
        from promptprobe.agent.optimize import check_openable

        params, out = self.params, self.params["out"]
        items, notice = batch.read_briefs(params["briefs"])
        if notice:
            o.say(notice)
        results = batch.Results(out)
        skipped = sum(map(results.has, items))
        if skipped:
            o.say(f"{skipped} of {len(items)} briefs are done already")

        def run(number: int, request: OptimizeRequest, runs: Path) -> OptimizationResult:
            return self._run(request, runs, batch.in_flight(runs), f"[{number}/{len(items)}] ")

        failed = 0
        template, llm = optimize_request(params, "the brief of each line"), llm_of(params)
        if skipped < len(items):
            with waiting(self.console):
                check_openable(template, llm)
        for item, error in batch.run_batch(items, out, template, run, llm):
            failed += bool(error)
            o.say(f"[{item.id}] {item.brief:.60}: {f'failed: {error}' if error else 'done'}")
        counts = {"briefs": len(items), "skipped": skipped, "failed": failed}
        if params["json"]:
            o.print_json({**counts, "results": str(results.path)})
        else:
            summary = ", ".join(f"{number} {name}" for name, number in counts.items())
            o.print_line(f"{summary}; one row a brief in {results.path}")
        return o.FAILED if failed else o.DONE

    def _run(
        self, request: OptimizeRequest, out: Path, resume: Path | None, title: str
    ) -> OptimizationResult:
        from promptprobe.agent import run_folder
        from promptprobe.agent.context import NOBODY, Person
        from promptprobe.agent.doors.cli.progress import live
        from promptprobe.agent.doors.interactive import at_terminal
        from promptprobe.agent.given import opened
        from promptprobe.agent.optimize import go_on, start, wait_for

        asks = self.params["interactive"] or (
            resume is not None and run_folder.read(resume).interactive
        )
        with live(self.console, title, bar=not asks) as show:

            def watch(event: Event) -> None:
                self.run_dir = getattr(event, "run_dir", self.run_dir)
                show(event)

            person = Person(approve=at_terminal(self.console)) if asks else NOBODY
            llm = llm_of(self.params)
            if resume is not None:
                judges = tuple(self.params["judge"] or ())
                again = partial(opened, scorer=self.params["scorer"], judges=judges)
                going = go_on(resume, watch, open_tools=again, llm=llm, person=person)
                return wait_for(going)
            return wait_for(start(request, out, watch, llm=llm, person=person))

    def kept(self) -> str:
        """How to continue from what was saved."""
        if self.params["briefs"] is not None:
            return "What is done is kept: repeat the same command to continue"
        if self.run_dir is None:
            return "No run was started"
        run = shlex.quote(str(self.run_dir))
        return f"The run is kept; continue with: promptprobe optimize --resume {run}"


# -- probe -------------------------------------------------------------------------------------


@app.command(epilog=PROBE_EXAMPLES)
@o.with_pictures
@o.with_model
def probe(
    context: typer.Context,
    brief: Annotated[str, Argument(metavar="BRIEF", help="what the picture should show")],
    json: o.Json = False,
    heatmaps: Annotated[
        Path | None,
        Option(help="folder for pictures of each word's attention: a PNG per candidate, index.png"),
    ] = None,
    prompt: Prompts = None,
    seeds: Annotated[
        int,
        Option(min=1, max=MAX_SEEDS, rich_help_panel=o.SEARCH, help="seeds of each prompt"),
    ] = 8,
) -> int:
    """Judge seeds and wordings of BRIEF by their first denoising steps; draw no picture.

    Predicts how well each would draw BRIEF, and shows how settled each word is.
    `promptprobe probes` lists the trained networks that this command uses.
    """

    def work() -> int:
        request = probe_request(context.params)  # report bad options before anything loads
        from rich.console import Console

        from promptprobe.agent.doors import display
        from promptprobe.agent.doors.cli.progress import waiting
        from promptprobe.agent.probe_prompts import answer

        with waiting(Console(stderr=True)) as tell:

            def report(done: float, total: float, message: str) -> None:
                tell(f"probed {done:.0f} of {total:.0f}")

            reply = answer(request, report, heatmaps)
        if json:
            o.print_json(reply.model_dump(mode="json"))
        else:
            display.show_probe(reply)
        return o.DONE

    return o.ended("probe", work, lambda: "Nothing is kept")


def probe_request(params: Mapping[str, Any]) -> ProbeRequest:
    """The request that all doors share, from the options.

    Raises:
        ValueError: an option is out of bounds.
    """
    first = params["seed"] or 0
    given = {
        **{name: params[name] for name in ("brief", "model", "scorer", "probe")},
        "prompts": [params["brief"], *(params["prompt"] or ())],
        "seeds": [first + number for number in range(params["seeds"])],
        "generation": o.generation_of(params),
    }
    return checked(ProbeRequest, given)
