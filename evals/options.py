"""Options that `eval fidelity` and `eval gain` share: the model, its judges and the prompts."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from promptprobe.agent.doors import options as o
from promptprobe.agent.doors.schemas import checked
from promptprobe.tools.records import Generation

if TYPE_CHECKING:
    from promptprobe.evals.bench import Bench
    from promptprobe.evals.briefs import Sample

MOST = 100_000
ON_PROMPTS = (
    "Images are drawn now, of held-out scenes of a built-in model or of a file of prompts that no "
    "training has seen. fidelity reserves a third of a file's prompts for fitting and choosing. "
    f"Every figure has a 95% interval from a bootstrap over prompts.\n\n{o.CODES}"
)
AnyModel = Annotated[str, Option(help=o.ANY_MODEL)]
SHARDS = "shards"
Prompts = Annotated[
    str,
    Option(
        metavar="NUMBER|FILE",
        help="number of held-out scenes of a built-in model, or a file of new prompts",
    ),
]
PromptsOrShards = Annotated[
    str,
    Option(
        metavar=f"NUMBER|FILE|{SHARDS}",
        help="number of held-out scenes of a built-in model; a file of new prompts; or shards, the "
        "prompts of --shards that no training has learned from, whose candidates are not drawn "
        "again",
    ),
]
Most = Annotated[
    int | None, Option(min=2, max=MOST, help="maximum number of prompts of the file, by hash")
]
Seeds = Annotated[int, Option(min=2, max=MOST, help="new seeds for each prompt, at least 2")]
Scorer = Annotated[
    str | None,
    Option(help="judge that selects (a built-in model's own); promptprobe judges lists them"),
]
Judge = Annotated[
    str | None, Option(help="judge that only grades (a built-in model's own; the scorer)")
]
Probe = Annotated[
    str | None, Option(help="folder or hub id of a probe (a built-in model's own; previews)")
]
Good = Annotated[
    float | None,
    Option(
        help="score from which an image is good and at which runs of gain stop (the median of "
        "training, or the scorer's own verdict; runs stop at an image that it calls correct)"
    ),
]


def opened(
    params: Mapping[str, Any], split: str = "test", *, choosing: bool = True
) -> tuple[Bench, Sample]:
    """Open what the options name, and the briefs to measure on; print notes.

    ValueError: something cannot be opened, or does not fit the briefs.
    """
    from promptprobe.evals import briefs
    from promptprobe.evals.bench import check_shards, collections, open_bench

    generation = checked(Generation, o.generation_of(params))
    names = ("scorer", "judge", "probe", "good")
    bench = open_bench(params["model"], generation, **{name: params[name] for name in names})
    if params["shards"]:
        check_shards(bench, params["shards"])
    prompts, most = params["prompts"], params["most"]
    if prompts == SHARDS and choosing:
        sample = _of_shards(bench, params)
    elif prompts.isdecimal():
        if most is not None:
            raise ValueError("--most counts prompts of a file, but --prompts already counts scenes")
        sample = briefs.held_out(bench, int(prompts), split, choosing=choosing)
    elif split == "test":
        trained = briefs.contents(collections(params["shards"], params["probe"]))
        sample = briefs.from_file(Path(prompts), most, trained, choosing=choosing)
        briefs.check_each(bench, [*sample.known, *sample.test])
    else:
        raise ValueError(f"--split {split} is for a built-in model's scenes; leave it out")
    for note in (*bench.notes, *sample.notes):
        o.say(f"note: {note}")
    return bench, sample


def _of_shards(bench: Bench, params: Mapping[str, Any]) -> Sample:
    """The held-out prompts of --shards. ValueError: there are too few."""
    from promptprobe.evals import briefs
    from promptprobe.evals.bench import collections

    shards = params["shards"]
    if shards is None:
        raise ValueError(f"--prompts {SHARDS} reads a collection: name it with --shards DIR")
    beside = [one for one in collections(None, params["probe"]) if not one.samefile(shards)]
    trained = briefs.contents(beside)
    return briefs.from_shards(bench, shards, params["seeds"], params["most"], trained)


def check_plots(folder: Path) -> None:
    """Check that plots can be drawn and written, before an hour of work.

    ValueError: matplotlib is not installed. OSError: the folder cannot be created.
    """
    if find_spec("matplotlib") is None:
        raise ValueError("--plot needs matplotlib: pip install 'promptprobe[plots]'")
    folder.mkdir(parents=True, exist_ok=True)
