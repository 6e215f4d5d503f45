"""Files for common trainers: preference pairs for DPO, and prompts for GRPO.

Files are written atomically.
"""

from __future__ import annotations

import json
import shlex
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

from tqdm import tqdm

from promptprobe.agent.export.pairs import FinishedRun
from promptprobe.agent.run_folder import RunSettings, check_folder, runs_in
from promptprobe.agent.search.policy import predicted
from promptprobe.probe.files import replacing
from promptprobe.tools.records import Generation, Trial
from promptprobe.tools.scorers.function import names_code

FOLDER = "the folder of the file"
ROWS = 64
"""Pairs per row group, which are in memory at once."""
COUNTS = (
    "prompts", "pairs", "tied", "unscored", "rendered", "nfe", "nfe_in_all", "nfe_every_seed",
    "left_out",
)  # fmt: skip
"""nfe is spent by this call; nfe_in_all adds what the runs spent, including their probes;
nfe_every_seed is what rendering every seed without probing would have cost; left_out are runs."""

Maker = tuple[str, Generation, str | None]
"""Model, settings and scorer of a run."""
Say = Callable[[str], None]


@dataclass
class Work:
    """The work for the runs of one maker."""

    folders: list[Path] = field(default_factory=list)
    prompts: int = 0
    seeds: int = 0
    missing: int = 0
    unscored: int = 0


def write_pairs(source: Path, out: Path, say: Say, scorer: str | None = None) -> dict[str, int]:
    """Write a parquet table in the layout of yuvalkirstain/pickapic_v2; returns `COUNTS`.

    Diffusion-DPO trainers (diffusers' train_diffusion_dpo.py, Salesforce's train.py) read its
    columns caption, jpg_0, jpg_1, label_0 and label_1. The caption is the prompt that was drawn:
    they learn p(image | caption). Despite the column names, the images are the run's lossless PNG:
    readers go by content.

    Args:
        source: the folder of a run, or of runs.
        say: called before a model draws, with the number of pairs and the cost, and with each run
            that is left out: it is damaged, or cannot be drawn or judged again.
        scorer: code or a service that judged runs, which judges their new pictures too.

    Raises:
        ValueError: no run that can be used, none judged by `scorer`, or nothing to compare.
        RuntimeError: no pair has scores that differ.
        OSError: the file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    counts = Counter(dict.fromkeys(COUNTS, 0))
    works, counts["left_out"] = _plan(source, scorer, say)
    of_each = {
        "jpg": pa.binary(),
        "label": pa.float64(),
        "seed": pa.int64(),
        "score": pa.float64(),
        "predicted": pa.float64(),
    }
    both = {f"{name}_{place}": kind for name, kind in of_each.items() for place in (0, 1)}
    texts = {name: pa.string() for name in ("caption", "brief", "model")}
    schema = pa.schema(texts | both)
    check_folder(out.parent, FOLDER)
    with replacing(out) as partial:
        with pq.ParquetWriter(partial, schema) as writer:
            rows = chain.from_iterable(_rows(*work, counts, say) for work in works.items())
            while some := list(islice(rows, ROWS)):
                writer.write_table(pa.Table.from_pylist(some, schema))
        if not counts["pairs"]:
            raise RuntimeError(
                f"no pair has scores that differ: {counts['tied']} tied, "
                f"{counts['unscored']} unscored"
            )
    return dict(counts)


def write_prompts(source: Path, out: Path, say: Say) -> dict[str, int]:
    """Write the prompts whose seeds are predicted to score differently, the most different first.

    GRPO learns from differences within a prompt. Flow-GRPO reads `train.txt` (one prompt a line)
    and `train_metadata.jsonl` (objects with `prompt`). Nothing is drawn. If runs share a prompt,
    the one with the greatest difference counts.

    Args:
        source: the folder of a run, or of runs.
        say: called with each run that is left out because it is damaged.

    Raises:
        ValueError: no run that can be used, or no such prompt.
        OSError: the file cannot be written.
    """
    rows: list[dict[str, Any]] = []
    left_out = _each(source, lambda run: rows.extend(map(_line_of, run.choices)), say)
    if not rows:
        raise ValueError(_nothing(source))
    rows.sort(key=lambda row: row["predicted_std"], reverse=True)
    unique: dict[str, dict[str, Any]] = {}
    for row in rows:
        unique.setdefault(row["prompt"], row)
    if out.suffix == ".txt":
        lines = [" ".join(prompt.splitlines()) for prompt in unique]
    else:
        lines = [json.dumps(row) for row in unique.values()]
    check_folder(out.parent, FOLDER)
    with replacing(out) as partial:
        partial.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return {"prompts": len(lines), "left_out": left_out}


# -- details -----------------------------------------------------------------------------------


def _plan(source: Path, scorer: str | None, say: Say) -> tuple[dict[Maker, Work], int]:
    """The work for the runs that can be used, and how many cannot."""
    works: dict[Maker, Work] = defaultdict(Work)
    judged_by: set[str] = set()

    def add(run: FinishedRun) -> None:
        settings, missing, unscored = run.settings, len(run.missing()), len(run.unscored())
        judged_by.add(settings.scorer)
        if missing or unscored:
            _check_named(settings, scorer)
        if run.choices:
            work = works[settings.model, settings.generation, settings.scorer]
            work.folders.append(run.folder)
            work.prompts += len(run.choices)
            work.seeds += sum(map(len, run.choices))
            work.missing += missing
            work.unscored += unscored

    left_out = _each(source, add, say)
    if scorer and scorer not in judged_by:
        others = ", ".join(map(repr, sorted(judged_by)))
        raise ValueError(f"no run in {source} was judged by {scorer!r}, but by {others}")
    if not works:
        raise ValueError(_nothing(source))
    return works, left_out


def _each(source: Path, use: Callable[[FinishedRun], None], say: Say) -> int:
    """Use every run; return how many could not be used. Raises ValueError if that is all."""
    folders, problems = runs_in(source), []
    for folder in folders:
        try:
            use(FinishedRun(folder))
        except (OSError, ValueError) as error:
            problems.append(f"{folder}: {error}")
    if len(problems) == len(folders):
        raise ValueError("; ".join(problems))
    for problem in problems:
        say(f"left out: {problem}")
    return len(problems)


def _check_named(settings: RunSettings, scorer: str | None) -> None:
    """ValueError: what has to be drawn or judged cannot be as it was."""
    if names_code(settings.scorer) and settings.scorer != scorer:
        raise ValueError(
            f"it was judged by {settings.scorer!r}, but a folder must not decide whose code runs "
            f"here or where pictures go: give --scorer {shlex.quote(settings.scorer)}"
        )
    if {"model", "scorer"} & set(settings.objects):
        raise ValueError(
            "it was started with a model or scorer that is a Python object, so nothing can be "
            "drawn and judged as it was. Save the model as a folder, name a scorer, and run it "
            "again; or leave this run out"
        )


def _nothing(source: Path) -> str:
    return (
        f"no prompt of the runs in {source} has two seeds with different predicted scores. Give "
        "them more seeds, as --budget medium does"
    )


def _rows(maker: Maker, work: Work, counts: Counter[str], say: Say) -> Iterator[dict[str, Any]]:
    """Yield the pairs of all runs of one maker; its model is released before the next opens.

    Nothing is opened where everything is drawn and judged already.
    """
    from promptprobe.tools.models.model import open_toolbox

    tools = open_toolbox(*maker) if work.missing or work.unscored else None
    cost = work.missing * tools.nfe_per_render if tools else 0
    say(
        f"{maker[0]}: at most {work.prompts} pairs of {work.seeds} probed seeds; {work.missing} "
        f"images to render, at most {cost} denoiser evaluations"
    )
    reasons: set[str] = set()
    with tqdm(total=work.missing, unit="image", desc="render") as bar:
        for folder in work.folders:
            run = FinishedRun(folder)
            if tools:
                for rendered in run.render(tools):
                    counts.update(rendered=len(rendered), nfe=sum(one.nfe for one in rendered))
                    reasons |= {one.reason for one in rendered}
                    bar.update(len(rendered))
                reasons |= {score.reason for score in run.judge(tools)}
            each = tools.nfe_per_render if tools else run.nfe_per_render()
            for ranked in run.choices:
                counts.update(nfe_in_all=run.nfe(ranked), nfe_every_seed=len(ranked) * each)
                yield from _compared(run, ranked, counts)
    for reason in sorted(filter(None, reasons)):
        say(f"unscored, and so left out: {reason}")


def _compared(
    run: FinishedRun, ranked: Sequence[Trial], counts: Counter[str]
) -> Iterator[dict[str, Any]]:
    """The row of a prompt, if its scores differ."""
    # Ordered by hash: if the better one always came first, a trainer could learn the position.
    pair = sorted((ranked[0], ranked[-1]), key=lambda trial: trial.candidate.key)
    scores = [run.score(trial.candidate) for trial in pair]
    found = "unscored" if None in scores else "tied" if len(set(scores)) == 1 else "pairs"
    counts.update(("prompts", found))
    if found == "pairs":
        yield _row(run, pair)


def _row(run: FinishedRun, pair: Sequence[Trial]) -> dict[str, Any]:
    model = Path(run.settings.model)
    row: dict[str, Any] = {
        "caption": pair[0].candidate.prompt,
        "brief": run.settings.brief,
        "model": model.name if model.is_absolute() else run.settings.model,  # no home folder
    }
    scores = [run.score(trial.candidate) or 0.0 for trial in pair]
    for place, (trial, score) in enumerate(zip(pair, scores, strict=True)):
        image = run.image(trial.candidate)
        assert image is not None, "only an image can have a score"
        row |= {
            f"jpg_{place}": image.read_bytes(),
            f"label_{place}": float(score == max(scores)),
            f"seed_{place}": trial.candidate.seed,
            f"score_{place}": score,
            f"predicted_{place}": predicted(trial),
        }
    return row


def _line_of(ranked: Sequence[Trial]) -> dict[str, Any]:
    """A prompt on one line, with statistics of its seeds' predictions."""
    scores = [predicted(trial) for trial in ranked]
    return {
        "prompt": " ".join(ranked[0].candidate.prompt.split()),
        "seeds": len(scores),
        "predicted_mean": fmean(scores),
        "predicted_std": pstdev(scores),
    }
