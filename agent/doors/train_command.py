"""`promptprobe train`: a probe for a model, from prompts or past runs, and a scorer.

Killed at any moment it goes on where it was; more prompts later only add. Exit codes: 0 done,
1 failed, 2 bad usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from promptprobe.agent.doors.options import (
    DONE,
    add_pictures,
    command_parser,
    ended,
    forgive_terminals,
    generation_of,
    print_json,
    whole,
)
from promptprobe.agent.doors.schemas import checked

MOST = 1000
"""Seeds of a prompt, steps, or epochs."""
LINE = 1000
"""Characters that are said at once: a run of somebody's may hold anything."""

EXAMPLES = """\
examples:
  promptprobe train --model FOLDER --prompts prompts.txt --scorer clip:FOLDER --out my-probe
  python -m promptprobe.tools.sprites.prompts > sprites.jsonl
  promptprobe train --model sprites --prompts sprites.jsonl --scorer sprites --out T
  promptprobe train --model FOLDER --from-runs runs --scorer clip:FOLDER --out my-probe
  promptprobe train --model sprites --prompts sprites.jsonl --scorer sprites --out T \
    --also steps=15 --also steps=50 --also guidance=1

exit codes: 0 done, 1 failed, 2 bad usage, 130 interrupted; the same command goes on
"""


def build_parser() -> argparse.ArgumentParser:
    """The options of `promptprobe train`."""
    parser = command_parser(
        "train",
        "Draw prompts x seeds with a model, judge the pictures, and train a probe that "
        "foretells the judgement from the first denoising steps. Needs promptprobe[train].",
        EXAMPLES,
    )
    add = parser.add_argument
    add("--model", required=True, metavar="M", help="sprites[-flow], a diffusers folder or hub id")
    add(
        "--prompts", type=Path, metavar="FILE",
        help='text, CSV, TSV or JSON; .jsonl with {"prompt": ..., "scene": ..., "split": ...}',
    )  # fmt: skip
    add(
        "--from-runs", type=Path, action="append", default=[], metavar="DIR",
        help="a run, or a folder of runs, of the same model and settings: their finished pictures "
        "are not drawn again; may be repeated, and goes with --prompts or without",
    )  # fmt: skip
    add(
        "--scorer", action="append", required=True, metavar="S",
        help="sprites, clip:sprites, critic:sprites, or clip:FOLDER_OR_HUB_ID; may be repeated: "
        "the first one judges previews too",
    )  # fmt: skip
    add("--out", type=Path, required=True, metavar="DIR", help="shards, and the probe in DIR/probe")
    _add_training(parser)
    add("--json", action="store_true", help="print the card on stdout")
    add_pictures(parser)
    return parser


def _add_training(parser: argparse.ArgumentParser) -> None:
    """From how much it learns, what it begins with, and what it is validated for."""
    add = parser.add_argument
    add("--seeds", type=whole(MOST), default=8, metavar="N", help="seeds of each prompt (8)")
    add(
        "--probed", type=_counts, default=(), metavar="K,...",
        help="numbers of steps to learn from (1,2,3,5,8,10 of 25)",
    )  # fmt: skip
    add("--epochs", type=whole(MOST), default=30, metavar="N", help="of training, at most (30)")
    add(
        "--start", metavar="P",
        help="begin with the weights of this probe, of a kindred model or of this one: a folder, a "
        "hub id, or a built-in model's name (default: with chance)",
    )  # fmt: skip
    add(
        "--also", action="append", default=[], metavar="SETTING=VALUE",
        help="validate for this too: steps, guidance, height or width (steps=15); may be repeated, "
        "and the probe is then used as far as it was found to hold",
    )  # fmt: skip


def _counts(text: str) -> tuple[int, ...]:
    return tuple(whole(MOST)(part) for part in text.split(","))


def main(argv: list[str]) -> int:
    """Run the command; returns its exit code."""
    forgive_terminals()
    parser = build_parser()
    options = parser.parse_args(argv)
    if not (options.prompts or options.from_runs):
        parser.error("expected --prompts FILE, --from-runs DIR, or both")
    return ended("train", lambda: _train(options), lambda: f"{options.out} keeps what is done")


def _say(line: str) -> None:
    from promptprobe.agent.doors.display import plain

    print(plain(" ".join(line.split()), LINE), file=sys.stderr, flush=True)


def _train(options: argparse.Namespace) -> int:
    from promptprobe.agent.export.past_runs import read_runs
    from promptprobe.tools.collect.learn import ProbeTraining, learn
    from promptprobe.tools.collect.prompts import read_prompts
    from promptprobe.tools.records import Generation

    given = {name: value for name, value in generation_of(options).items() if value is not None}
    wanted, notice = read_prompts(options.prompts) if options.prompts else ([], "")
    if notice:
        _say(notice)
    course = ProbeTraining(
        model=options.model,
        wanted=wanted,
        scorers=options.scorer,
        generation=checked(Generation, given),
        seeds=options.seeds,
        windows=options.probed,
        epochs=options.epochs,
        past=read_runs(options.from_runs, _say),
        start=options.start,
        also=options.also,
    )
    card = learn(course, options.out, _say)
    if options.json:
        print_json(card)
    else:
        for window in card["windows"]:
            for target, figures in window["figures"].items():
                rank = figures.get("within_pairwise", float("nan"))
                print(f"after {window['k']} steps: {target}, rank within a prompt {rank:.3f}")
        for check in card["checks"]:
            print(_checked(check))
        print(f"probe in {options.out / 'probe'}")
    return DONE


def _checked(check: dict[str, Any]) -> str:
    """What was found with another setting."""
    names = ("within_pairwise", "within_pairwise_home", "coverage")
    rank, home, share = ("-" if check[n] is None else f"{check[n]:.3f}" for n in names)
    verdict = "holds" if check["holds"] else "does not hold"
    return (
        f"with {check['setting']} {check['value']:g}: {verdict}, rank within a prompt {rank} "
        f"against {home}, intervals hold {share} of the scores"
    )
