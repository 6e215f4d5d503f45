"""`promptprobe pairs`: training pairs, or prompts, from runs that `promptprobe optimize` left.

Killed at any moment it goes on where it was. Exit codes: 0 done, 1 failed, 2 bad usage, 130
interrupted.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from promptprobe.agent.doors.options import (
    DONE,
    command_parser,
    ended,
    forgive_terminals,
    print_json,
)

PAIRS, PROMPTS = ".parquet", (".jsonl", ".txt")

EXAMPLES = """\
examples:
  promptprobe optimize --briefs briefs.txt --out results --no-rewrite --budget medium
  promptprobe pairs --from results --out pairs/train.parquet
  promptprobe pairs --from results --out grpo/train.txt                prompts only, draws nothing

A pair is a prompt's highest and lowest predicted seed, drawn where the run has not, and labelled by
the run's scorer. Diffusion-DPO trainers read the file as they read yuvalkirstain/pickapic_v2.
Prompts are those whose seeds are predicted to differ, the most different first, as Flow-GRPO reads
them: train.txt, or train_metadata.jsonl.

exit codes: 0 done, 1 failed, 2 bad usage, 130 interrupted; the same command goes on
"""


def build_parser() -> argparse.ArgumentParser:
    """The options of `promptprobe pairs`."""
    parser = command_parser(
        "pairs",
        "Make preference pairs for DPO of what runs have probed: the probe chooses "
        "which seeds to compare, so that only they are rendered. Needs promptprobe[train].",
        EXAMPLES,
    )
    add = parser.add_argument
    add(
        "--from", dest="source", type=Path, required=True, metavar="DIR",
        help="a run's folder, or a folder of runs: --out of `promptprobe optimize`",
    )  # fmt: skip
    add(
        "--out", type=Path, required=True, metavar="FILE",
        help="pairs as .parquet; or only prompts, for GRPO, as .jsonl or .txt",
    )  # fmt: skip
    add("--json", action="store_true", help="print the counts as one JSON object on stdout")
    return parser


def main(argv: list[str]) -> int:
    """Run the command; returns its exit code."""
    forgive_terminals()
    parser = build_parser()
    options = parser.parse_args(argv)
    if options.out.suffix not in (PAIRS, *PROMPTS):
        parser.error(f"--out: expected {PAIRS}, {' or '.join(PROMPTS)}, got {str(options.out)!r}")
    return ended("pairs", lambda: _pairs(options), lambda: "What was rendered is kept in the runs")


def _pairs(options: argparse.Namespace) -> int:
    from promptprobe.agent.export.training_files import write_pairs, write_prompts

    if options.out.suffix == PAIRS:
        counts = write_pairs(
            options.source, options.out, lambda line: print(line, file=sys.stderr, flush=True)
        )
    else:
        counts = write_prompts(options.source, options.out)
    if options.json:
        print_json(counts)
    else:
        told = ", ".join(f"{name} {number}" for name, number in counts.items())
        print(f"{told}; in {options.out}")
    return DONE
