"""`promptprobe eval model | fidelity | gain | overhead | replay | rewriting | survival | trust`.

The report goes to stdout, progress to stderr. Exit codes: 0 done, 1 failed, 2 bad usage,
130 interrupted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer import Option

from promptprobe.agent.doors import options as o
from promptprobe.agent.doors.schemas import OptimizeRequest, checked
from promptprobe.evals import options, rewriting
from promptprobe.evals.fidelity import summary
from promptprobe.evals.overhead import thresholds
from promptprobe.evals.overhead.synthetic_models import SHAPES
from promptprobe.evals.selection import replay_command as replays
from promptprobe.evals.survival import survival
from promptprobe.tools.models.built_in import PLUGINS
from promptprobe.tools.nearest import did_you_mean
from promptprobe.tools.records import Generation

Report = dict[str, Any]
ON_SCENES = (
    "A built-in model draws images of held-out scenes on this machine. Every figure has a 95% "
    f"interval from a bootstrap over scenes.\n\n{o.CODES}"
)
Scenes = Annotated[int, Option(min=2, max=options.MOST, help="scenes, at least 2")]
BuiltIn = Annotated[str, Option(help=f"a built-in model: {' or '.join(PLUGINS)}")]
app = typer.Typer(
    no_args_is_help=True,
    help="Measure on this machine what the project claims about the model, the probe and the gain.",
)


@app.command("model", epilog=ON_SCENES)
def of_model(
    prompts: Scenes = 120,
    seeds: options.Seeds = 8,
    split: Annotated[
        Literal["test", "validation"], Option(help="validation: scenes to choose settings on")
    ] = "test",
    model: BuiltIn = "sprites",
    guidance: Annotated[float | None, Option(help="guidance scale (the model's own)")] = None,
    json: o.Json = False,
) -> int:
    """Measure what a built-in model draws correctly, and how much seed and phrasing matter."""

    def work() -> Report:
        from promptprobe.evals import model as evaluation
        from promptprobe.evals.bench import open_bench, own_of

        own_of(model)
        bench = open_bench(model, checked(Generation, {"guidance": guidance}))
        return evaluation.evaluate(bench, prompts, seeds, split)

    return reported("model", work, lines, json)


@app.command("fidelity", epilog=options.ON_PROMPTS)
@o.with_pictures
def of_fidelity(
    context: typer.Context,
    prompts: options.PromptsOrShards = "100",
    most: options.Most = None,
    seeds: options.Seeds = 8,
    split: Annotated[
        Literal["test", "composition"],
        Option(help="split of scenes; composition: combinations of words never trained on"),
    ] = "test",
    model: options.AnyModel = "sprites",
    scorer: options.Scorer = None,
    judge: options.Judge = None,
    probe: options.Probe = None,
    good: options.Good = None,
    step: Annotated[
        int | None, Option(min=1, max=options.MOST, help="steps before predicting (a fifth)")
    ] = None,
    shards: Annotated[
        Path | None,
        Option(
            help="a collection of `promptprobe train` (OUT/shards): baseline networks, and "
            "ablations of ours, are trained on it first; with --prompts shards, its candidates are "
            "read instead"
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        Option(
            help="folder for plots: predicted against actual score, rank over steps, headroom by "
            "cost (needs promptprobe\\[plots])"
        ),
    ] = None,
    json: o.Json = False,
) -> int:
    """Measure how well the first steps predict the finished image, and what that saves."""

    def work() -> Report:
        from promptprobe.evals.fidelity import fidelity, plots
        from promptprobe.evals.fidelity.experiment import run_experiment

        if plot:
            options.check_plots(plot)
        bench, briefs = options.opened(context.params, split)
        images = (len(briefs.test) + len(briefs.known)) * seeds
        source = f"are read from {briefs.shards}" if briefs.shards else "are drawn"
        o.say(f"{images} images of {bench.nfe()} evaluations {source}; coarse renders are drawn")
        drawn = run_experiment(bench, briefs, seeds, step, None if briefs.shards else shards)
        report = fidelity.report(drawn)
        if plot:
            report["pictures"] = [str(path) for path in plots.save(drawn, report, plot)]
        return report

    return reported("fidelity", work, summary.lines, json)


@app.command("gain", epilog=options.ON_PROMPTS)
@o.with_pictures
def of_gain(
    context: typer.Context,
    prompts: options.Prompts = "100",
    most: options.Most = None,
    seeds: options.Seeds = 8,
    model: options.AnyModel = "sprites",
    scorer: options.Scorer = None,
    judge: options.Judge = None,
    probe: options.Probe = None,
    good: options.Good = None,
    budget: o.BudgetOption = None,
    policy: Annotated[
        list[str] | None,
        Option(
            metavar="naive|until-good|planned",
            help="rows to show (all): naive best-of-n, naive renders until one is good, the "
            "optimizing run; may be repeated",
        ),
    ] = None,
    shards: Annotated[
        Path | None,
        Option(help="a collection of `promptprobe train`: a score above its median counts as good"),
    ] = None,
    json: o.Json = False,
) -> int:
    """Measure what optimize_prompt gains over the brief and over naive best-of-n."""

    def work() -> Report:
        from promptprobe.evals.gain import gain

        asked = checked(OptimizeRequest, {"brief": "a", "budget": budget or "light"}).budget
        policies = gain.known_policies(policy or gain.POLICIES)
        bench, briefs = options.opened(context.params, choosing=False)
        return gain.evaluate(bench, briefs, seeds, asked, policies, shards=shards)

    return reported("gain", work, lines, json)


@app.command(
    "overhead",
    epilog="Leave the machine idle otherwise: other work makes the ratios of times unreliable."
    f"\n\n{o.CODES}",
)
def of_overhead(
    device: Annotated[Literal["cpu", "cuda"], Option(help="cuda: models in full size")] = "cpu",
    shapes: Annotated[
        str, Option(metavar="NAME,...", help=f"models to measure: {', '.join(SHAPES)}")
    ] = ",".join(SHAPES),
    rounds: Annotated[
        int | None,
        Option(min=1, max=options.MOST, help="rounds for each model; more are more precise"),
    ] = None,
    json: o.Json = False,
) -> int:
    """Measure the time and memory that probing adds, and those that a rival's capture adds."""

    def work() -> Report:
        names = shape_names(shapes)
        from promptprobe.evals.overhead.overhead import evaluate

        return evaluate(device, names, rounds)

    return reported("overhead", work, thresholds.lines, json)


@app.command("replay", epilog=f"{replays.ABOUT}\n\n{o.CODES}")
def of_replay(
    table: replays.Tables = None,
    shards: replays.Shards = None,
    probe: replays.Probe = None,
    scorer: replays.Scorer = None,
    signal: replays.Signal = "preview",
    budget: replays.Budgets = None,
    policy: replays.Policies = None,
    plot: replays.Plot = None,
    json: o.Json = False,
) -> int:
    """Measure what selection policies recover of best-of-8's gain, without a model."""

    def work() -> Report:
        return replays.run(table, shards, probe, scorer, signal, budget, policy, plot)

    return reported("replay", work, replays.lines, json)


@app.command(
    "rewriting",
    epilog="Briefs are sent to the LLM's endpoint; with local:FOLDER_OR_ID they stay on this "
    f"machine.\n\n{o.CODES}",
)
def of_rewriting(
    briefs: Annotated[Path, Option(metavar="FILE", help="a file as for optimize --briefs")],
    llm: Annotated[str, Option(help="name of an LLM, or local:FOLDER_OR_ID")],
    rewrite: Annotated[
        Literal["faithful", "enrich"], Option(help="how freely the LLM may rewrite")
    ] = "enrich",
    max_tokens: Annotated[int | None, Option(min=1, help="maximum tokens of a reply")] = None,
    most: Annotated[
        int | None, Option(min=1, help="maximum number of briefs, spread over the file")
    ] = None,
    json: o.Json = False,
) -> int:
    """Count the rewrites that an LLM offers for many briefs, and those refused, by reason."""

    def work() -> Report:
        from promptprobe.tools.endpoint.endpoint import LLM

        asked = LLM(model=llm, max_tokens=max_tokens)
        return rewriting.evaluate(asked, briefs, rewrite, most, o.say)

    return reported("rewriting", work, rewriting.lines, json)


@app.command("survival", epilog=f"The runs are small and use the CPU.\n\n{o.CODES}")
def of_survival(
    kills: Annotated[
        int, Option(min=0, max=options.MOST, help="runs killed while they write to disk")
    ] = 40,
    random: Annotated[
        int, Option(min=0, max=options.MOST, help="runs killed at random times")
    ] = 20,
    model: BuiltIn = "sprites",
    seed: Annotated[int, Option(help="seed of the random times")] = 0,
    json: o.Json = False,
) -> int:
    """Kill and resume runs, and count those whose result differs from an uninterrupted run's."""

    def work() -> Report:
        from tqdm import tqdm

        from promptprobe.evals.survival.survival import evaluate

        with tqdm(total=kills + random, unit="run") as progress:
            return evaluate(model, kills, random, seed, advance=progress.update)

    return reported("survival", work, survival.lines, json)


@app.command("trust", epilog=ON_SCENES)
def of_trust(
    prompts: Scenes = 100,
    model: BuiltIn = "sprites",
    budget: Annotated[
        Literal["light", "medium", "heavy"], Option(help="budget of each run")
    ] = "medium",
    json: o.Json = False,
) -> int:
    """Count runs that stop trusting the probe, and runs that stop trusting a shuffled one."""

    def work() -> Report:
        from promptprobe.evals.gain import trust

        return trust.evaluate(model, prompts, budget)

    return reported("trust", work, lines, json)


def reported(
    name: str,
    measure: Callable[[], Report],
    shown: Callable[[Report], Iterable[str]],
    as_json: bool,
) -> int:
    """Measure, print the report, and return the exit code."""

    def work() -> int:
        begun = time.monotonic()
        report = measure()
        report["wall_seconds"] = round(time.monotonic() - begun, 1)
        if as_json:
            o.print_json(report, indent=2)
        else:
            for line in shown(report):
                o.print_line(line)
        return o.DONE

    return o.ended(f"eval {name}", work, lambda: "An eval keeps nothing")


def shape_names(text: str) -> tuple[str, ...]:
    """Names of SHAPES without duplicates, in the order given."""
    names = tuple(dict.fromkeys(text.split(",")))
    if unknown := [name for name in names if name not in SHAPES]:
        raise ValueError(
            f"--shapes: expected some of {', '.join(SHAPES)}, separated by commas; "
            f"got {unknown[0]!r}{did_you_mean(unknown[0], SHAPES)}"
        )
    return names


def lines(report: object, indent: str = "") -> Iterator[str]:
    """A report as text: one figure a line, its interval in brackets."""
    if isinstance(report, list):
        report = {f"{at + 1}.": item for at, item in enumerate(report)}
    if not isinstance(report, dict):
        raise TypeError(f"expected a table, got {type(report).__name__}")
    for name, item in report.items():
        if isinstance(item, dict) and "value" in item:
            yield f"{indent}{name}: {figure(item)}"
        elif isinstance(item, dict | list):
            yield f"{indent}{name}"
            yield from lines(item, indent + "  ")
        else:
            yield f"{indent}{name}: {'none' if item is None else item}"


def figure(item: dict[str, Any]) -> str:
    """0.812 [0.771, 0.853], with question marks for what is undefined."""
    value, low, high = ("?" if item[end] is None else f"{item[end]:.3f}" for end in summary.FIGURE)
    rest = "".join(f", {item[name]} {name}" for name in item if name not in summary.FIGURE)
    return f"{value} [{low}, {high}]{rest}"
