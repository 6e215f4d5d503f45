"""`promptprobe probes list | show | verify`: which trained probes there are, and what each is for.

A card is text of others: it is shown without control characters, and never as markup. Exit codes:
0 done, 1 a probe that is broken, unknown or made for something else, 2 bad usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from promptprobe.agent.doors.display import plain
from promptprobe.agent.doors.options import (
    DONE,
    FAILED,
    add_pictures,
    command_parser,
    ended,
    fail,
    forgive_terminals,
    generation_of,
    print_json,
)
from promptprobe.agent.doors.schemas import checked

if TYPE_CHECKING:
    from rich.table import Table

    from promptprobe.probe.model.card import Card, Check, ModelSpec, Ranges
    from promptprobe.tools.models.probes import Listed

NAME = "probes"
PROBE = "a folder (DIR/probe of `promptprobe train`), a hub id (USER/NAME), or a built-in model"
EXAMPLES = """\
examples:
  promptprobe probes list DIR                  the shipped probes, and those in DIR, DIR/*, DIR/*/*
  promptprobe probes show sprites
  promptprobe probes verify USER/NAME --model FOLDER

share a probe with the hub's own command (`hf auth login` first); others then give USER/NAME to
--probe, here and in `promptprobe optimize` and `promptprobe probe`:
  hf upload USER/NAME DIR/probe

exit codes: 0 done, 1 broken, unknown or made for something else, 2 bad usage, 130 interrupted
"""
WORDS = {
    "validation_prompts": "prompts validated on",
    "validation_candidates": "candidates validated on",
    "within_pairwise": "rank within a prompt",
    "within_pairwise_blind": "rank without the judge's look",
    "within_pairwise_preview": "rank by the judge's look alone",
    "pooled_pcc": "correlation over all prompts (PCC)",
    "interval_width": "mean width of the interval, as a share",
}
"""What a card's figures are called here; of any other its own name is shown."""


def build_parser() -> argparse.ArgumentParser:
    """The options of `promptprobe probes`: a command each for many, for one, and for its check."""
    parser = command_parser(
        "probes",
        "List, show and verify trained probes.",
        EXAMPLES,
    )
    commands = parser.add_subparsers(dest="do", required=True, metavar="list|show|verify")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name, help=text, description=f"{text.capitalize()}.", allow_abbrev=False
        )

    one = command("list", "the shipped probes and those in folders, with how well they rank")
    one.add_argument(
        "folders", nargs="*", type=Path, metavar="DIR", help="look in DIR, DIR/* and DIR/*/*"
    )
    one.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    one = command("show", "what a probe was validated for, and how good it was then")
    one.add_argument("probe", metavar="PROBE", help=PROBE)
    one.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    one = command("verify", "whether a probe is whole and, with --model, made for that model")
    one.add_argument("probe", metavar="PROBE", help=PROBE)
    one.add_argument("--model", metavar="M", help="sprites[-flow], a diffusers folder, or a hub id")
    add_pictures(one)
    return parser


def main(argv: list[str]) -> int:
    """Run the command; returns its exit code."""
    forgive_terminals()
    options = build_parser().parse_args(argv)
    work = {"list": _list, "show": _show, "verify": _verify}[options.do]
    return ended(NAME, lambda: work(options), lambda: "Nothing was changed")


def _list(options: argparse.Namespace) -> int:
    from rich.console import Console

    from promptprobe.tools.models.probes import list_probes

    rows = list_probes(options.folders)
    if options.json:
        print_json({"probes": [row.model_dump(mode="json") for row in rows]})
    else:
        Console().print(_listing(rows))
    return DONE


def _show(options: argparse.Namespace) -> int:
    from promptprobe.probe.model.card import ProbeError
    from promptprobe.probe.model.checkpoint import WEIGHTS
    from promptprobe.tools.models.probes import locate_probe, verify_probe

    try:
        folder = locate_probe(options.probe)
        card = verify_probe(folder)
    except ProbeError as error:
        return fail(NAME, str(error), FAILED)
    size = (folder / WEIGHTS).stat().st_size
    if options.json:
        found = {"folder": str(folder), "bytes": size, "card": card.model_dump(mode="json")}
        print_json(found)
    else:
        _print_card(folder, size, card)
    return DONE


def _verify(options: argparse.Namespace) -> int:
    given = {name: value for name, value in generation_of(options).items() if value is not None}
    if given and options.model is None:
        raise ValueError(f"expected --model beside --{next(iter(given)).replace('_', '-')}")
    from promptprobe.probe.model.card import ProbeError
    from promptprobe.tools.models.probes import locate_probe, verify_probe
    from promptprobe.tools.records import Generation

    generation = checked(Generation, given)
    try:
        card = verify_probe(locate_probe(options.probe), options.model, generation)
    except ProbeError as error:
        return fail(NAME, str(error), FAILED)
    said = f"fits {options.model}" if options.model is not None else f"whole, made for {card.model}"
    counts = ", ".join(str(window.k) for window in card.windows)
    targets = ", ".join(target.name for target in card.targets)
    line = f"{said}: predicts the {targets} after {counts} of {card.made_with.steps} steps"
    sys.stdout.write(plain(line, 1000) + "\n")
    return DONE


# -- tables ------------------------------------------------------------------------------------


def _table(*headings: str, right: Sequence[str] = ()) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    out = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        out.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    return out


def _listing(rows: Sequence[Listed]) -> Table:
    """A row a probe; of several windows, a line each."""
    from rich.text import Text

    broken = any(row.problem for row in rows)
    right = ("steps", "rank", "candidates")
    out = _table("probe", "model", "targets", *right, *["problem"] * broken, right=right)
    out.caption = "rank: of the first target within a prompt, after that many steps of a render"
    out.caption_justify = "left"
    for row in rows:
        cells = [plain(row.probe, 500)]
        if row.problem:
            cells += ["-"] * 5 + [plain(row.problem, 500)]
        else:
            cells += [
                plain(row.model or ""),
                "\n".join(map(plain, row.targets)),
                "\n".join(f"{k} of {row.steps}" for k in row.windows),
                "\n".join("-" if rank is None else f"{rank:.3f}" for rank in row.ranks),
                str(row.candidates),
                *[""] * broken,
            ]
        out.add_row(*map(Text, cells))
    return out


def _print_card(folder: Path, size: int, card: Card) -> None:
    """For people: what it is, what it was validated for, what it predicts, how good it was."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    out = Console()
    for rows in (
        {
            "folder": str(folder),
            "model": card.model,
            "weights": f"{size:,} bytes, sha256 {card.weights_sha256}",
            "trained on": f"{card.candidates:,} candidates of {card.prompts:,} prompts",
            "begun with": f"weights {card.start_sha256}" if card.start_sha256 else "chance",
            "intervals": f"hold {card.coverage:.0%} of the scores",
        },
        {"made with": "", **_facts(card.made_with)},
        {"holds for": "", **_ranges(card.ranges)},
    ):
        grid = Table.grid(padding=(0, 2))
        grid.add_column(no_wrap=True)
        grid.add_column(overflow="fold")
        for name, value in rows.items():
            grid.add_row(name, Text(plain(value, 500)))
        out.print(grid, "")
    right = ("from", "to", "median")
    targets = _table("predicts", *right, right=right)
    for target in card.targets:
        numbers = (f"{value:g}" for value in (target.low, target.high, target.median))
        targets.add_row(Text(plain(target.name)), *numbers)
    out.print(targets, _figures(card), *([_checks(card.checks)] if card.checks else []))


def _facts(facts: ModelSpec) -> dict[str, str]:
    """The model and settings of the candidates that it learned from, by name."""
    told = {name: str(value) for name, value in facts}
    told["timesteps"] = ", ".join(f"{at:g}" for at in facts.timesteps)
    told["layers"] = f"{len(facts.layers)}: {', '.join(facts.layers)}"
    told["negative_prompt"] = facts.negative_prompt or "none"
    return {f"  {name.replace('_', ' ')}": value for name, value in told.items()}


def _ranges(ranges: Ranges) -> dict[str, str]:
    """The settings that it was validated for, by name."""
    return {
        f"  {name}": f"{low:g}" if low == high else f"{low:g} to {high:g}"
        for name, (low, high) in ranges
    }


def _checks(checks: Sequence[Check]) -> Table:
    """A row a setting that it was measured with beside its own."""
    right = ("candidates", "rank", "rank at home", "coverage", "mean width")
    out = _table("with other settings", "holds", *right, right=right)
    for check in checks:
        figures = (
            check.within_pairwise,
            check.within_pairwise_home,
            check.coverage,
            check.interval_width,
        )
        out.add_row(
            f"{check.setting} {check.value:g}",
            "yes" if check.holds else "no",
            f"{check.candidates:,}",
            *("-" if figure is None else f"{figure:.3f}" for figure in figures),
        )
    out.caption = "of the first target, means over windows; at home: as it was made"
    out.caption_justify = "left"
    return out


def _figures(card: Card) -> Table:
    """A row a figure, a column a window."""
    from rich.text import Text

    heads = [f"{window.k} steps" for window in card.windows]
    out = _table("on validation scenes", *heads, right=heads)
    for target in card.targets:
        tables = [window.figures.get(target.name, {}) for window in card.windows]
        out.add_row(Text(plain(target.name), style="bold"))
        for name in dict.fromkeys(name for table in tables for name in table):
            cells = ["-" if name not in table else _number(table[name]) for table in tables]
            out.add_row(Text(f"  {plain(WORDS.get(name, name))}"), *cells)
    return out


def _number(value: float) -> str:
    return f"{value:,.0f}" if value.is_integer() else f"{value:.3f}"
