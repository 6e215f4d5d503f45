"""`promptprobe probes list | show | verify`: which trained probes there are, and what each is for.

A card is untrusted text: it is shown without control characters and never as markup. Exit codes:
0 done, 1 a probe that is broken, unknown or made for something else, 2 bad usage, 130 interrupted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promptprobe.agent.doors import options as o
from promptprobe.agent.doors.display import plain, results
from promptprobe.agent.doors.schemas import checked
from promptprobe.tools.records import Generation

if TYPE_CHECKING:
    from rich.table import Table

    from promptprobe.probe.model.card import Card, Check, ModelSpec, Ranges
    from promptprobe.tools.models.probes import Listed

NAME = "probes"
app = typer.Typer(
    no_args_is_help=True,
    help="List, show and verify trained probes: the networks that `promptprobe probe` uses.",
    epilog=o.examples(
        "probes list DIR",
        "probes show sprites",
        "probes verify USER/NAME --model FOLDER",
        end="Share a probe with the hub's own command (`hf auth login` first); others then give "
        "USER/NAME to --probe, here and in `promptprobe optimize` and `promptprobe probe`:\n"
        "  hf upload USER/NAME DIR/probe\n\n"
        "exit codes: 0 done, 1 broken, unknown or made for something else, 2 bad usage, "
        "130 interrupted",
    ),
)
PROBE = "a folder (DIR/probe of `promptprobe train`), a hub id (USER/NAME), or a built-in model"
Probe = Annotated[str, typer.Argument(metavar="PROBE", help=PROBE)]
WORDS = {
    "validation_prompts": "prompts validated on",
    "validation_candidates": "candidates validated on",
    "within_pairwise": "rank within a prompt",
    "within_pairwise_blind": "rank without the judge's look",
    "within_pairwise_preview": "rank by the judge's look alone",
    "pooled_pcc": "correlation over all prompts (PCC)",
    "interval_width": "mean width of the interval, as a share",
}
"""Labels of a card's figures; any other figure is shown under its own name."""


@app.command(name="list")
def list_(
    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="DIR...", help="look in DIR, DIR/* and DIR/*/*")
    ] = None,
    json: o.Json = False,
) -> int:
    """List the shipped probes and those in folders, with how well they rank."""

    def work() -> int:
        from rich.console import Console

        from promptprobe.tools.models.probes import list_probes

        rows = list_probes(folders or [])
        if json:
            o.print_json({"probes": [row.model_dump(mode="json") for row in rows]})
        else:
            Console(file=results()).print(_listing(rows))
        return o.DONE

    return _ended(work)


@app.command()
def show(probe: Probe, json: o.Json = False) -> int:
    """Show what a probe was validated for, and how well it did."""

    def work() -> int:
        from promptprobe.probe.model.checkpoint import WEIGHTS
        from promptprobe.tools.models.probes import locate_probe, verify_probe

        folder = locate_probe(probe)
        card = verify_probe(folder)
        size = (folder / WEIGHTS).stat().st_size
        if json:
            found = {"folder": str(folder), "bytes": size, "card": card.model_dump(mode="json")}
            o.print_json(found)
        else:
            _print_card(folder, size, card)
        return o.DONE

    return _ended(work)


@app.command()
@o.with_pictures
def verify(
    context: typer.Context,
    probe: Probe,
    model: Annotated[str | None, typer.Option(help=o.ANY_MODEL)] = None,
) -> int:
    """Verify that a probe is intact and, with --model, made for that model."""

    def work() -> int:
        from promptprobe.tools.models.probes import locate_probe, verify_probe

        given = o.generation_of(context.params)
        if given and model is None:
            name = next(iter(given)).replace("_", "-")
            context.fail(f"--{name} is a setting of a model: expected --model, too")
        card = verify_probe(locate_probe(probe), model, checked(Generation, given))
        result = f"fits {model}" if model is not None else f"intact, made for {card.model}"
        counts = ", ".join(str(window.k) for window in card.windows)
        targets = ", ".join(target.name for target in card.targets)
        o.print_line(
            f"{result}: predicts the {targets} after {counts} of {card.made_with.steps} steps"
        )
        return o.DONE

    return _ended(work)


def _ended(work: Callable[[], int]) -> int:
    """Like `options.ended`, but an unusable probe is a failure, not bad usage."""

    def tried() -> int:
        from promptprobe.probe.model.card import ProbeError

        try:
            return work()
        except ProbeError as error:
            return o.fail(NAME, str(error), o.FAILED)

    return o.ended(NAME, tried, lambda: "Nothing was changed")


# -- tables ------------------------------------------------------------------------------------


def _table(*headings: str, right: Sequence[str] = ()) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    out = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        out.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    return out


def _listing(rows: Sequence[Listed]) -> Table:
    """One row per probe, with one line per window."""
    from rich.text import Text

    broken = any(row.problem for row in rows)
    right = ("steps", "rank", "candidates")
    out = _table("probe", "model", "targets", *right, *["problem"] * broken, right=right)
    out.caption = "rank: for the first target, within a prompt, after that many steps of a render"
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
    """Print what the probe is, what it was validated for, what it predicts, and how well."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    out = Console(file=results())
    for rows in (
        {
            "folder": str(folder),
            "model": card.model,
            "weights": f"{size:,} bytes, sha256 {card.weights_sha256}",
            "trained on": f"{card.candidates:,} candidates of {card.prompts:,} prompts",
            "started from": f"weights {card.start_sha256}" if card.start_sha256 else "random",
            "intervals": f"contain {card.coverage:.0%} of the scores",
            "verdict": card.verdict or "not compared with previews prompt by prompt",
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
    out.print(
        targets,
        _figures(card),
        *([_compared(card)] if card.verdict else []),
        *([_checks(card.checks)] if card.checks else []),
    )


def _facts(facts: ModelSpec) -> dict[str, str]:
    """The model and settings of the candidates that the probe learned from, by name."""
    rows = {name: str(value) for name, value in facts}
    rows["timesteps"] = ", ".join(f"{at:g}" for at in facts.timesteps)
    rows["layers"] = f"{len(facts.layers)}: {', '.join(facts.layers)}"
    rows["negative_prompt"] = facts.negative_prompt or "none"
    rows["arguments"] = ", ".join(f"{n} {v:g}" for n, v in facts.arguments.items()) or "none"
    return {f"  {name.replace('_', ' ')}": value for name, value in rows.items()}


def _ranges(ranges: Ranges) -> dict[str, str]:
    """The settings that the probe was validated for, by name."""
    return {
        f"  {name}": f"{low:g}" if low == high else f"{low:g} to {high:g}"
        for name, (low, high) in ranges
    }


def _checks(checks: Sequence[Check]) -> Table:
    """One row per additional setting that the probe was validated with."""
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
    out.caption = "for the first target, means over windows; at home: with the training settings"
    out.caption_justify = "left"
    return out


def _figures(card: Card) -> Table:
    """One row per figure, one column per window."""
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


def _compared(card: Card) -> Table:
    """One row per window: the first target's rank by probe and by preview, and which is used."""
    right = ("probe", "preview", "difference", "prompts")
    out = _table("rank within a prompt after", *right, "used", right=right)
    name = card.targets[0].name
    for window in card.windows:
        if found := window.comparisons.get(name):
            lead = f"{found.difference:+.3f}"
            if found.low is not None:
                lead += f" ({found.low:+.3f} to {found.high:+.3f})"
            used = "probe" if window.beats_preview(name) else "preview"
            ranks = (f"{found.probe:.3f}", f"{found.preview:.3f}")
            out.add_row(f"{window.k} steps", *ranks, lead, str(found.prompts), used)
    out.caption = "on the same held-out prompts; 95% intervals of the difference over prompts"
    out.caption_justify = "left"
    return out


def _number(value: float) -> str:
    return f"{value:,.0f}" if value.is_integer() else f"{value:.3f}"
