"""Runs in the output folder that were stopped or cut off, so that the page can resume them.

A folder that cannot be read is left out; `promptprobe runs list` says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from promptprobe.agent.ledger import Ledger
from promptprobe.agent.run_folder import FILE, read
from promptprobe.tools.records import Spend, Trial

NEWEST, MOST = 100, 12
"""How many of the newest runs are searched, and how many unfinished ones are shown."""


@dataclass(frozen=True)
class Unfinished:
    """A run that can be resumed."""

    run_dir: Path
    brief: str
    trials: tuple[Trial, ...]
    spent: Spend


def unfinished_in(out: Path) -> list[Unfinished]:
    """The runs of a folder that can be resumed, the newest first."""
    folders = sorted((path.parent for path in out.resolve().glob(f"*/{FILE}")), reverse=True)
    found = filter(None, map(_unfinished, folders[:NEWEST]))
    return list(islice(found, MOST))


def _unfinished(run_dir: Path) -> Unfinished | None:
    try:
        settings, ledger = read(run_dir), Ledger(run_dir)
    except (OSError, ValueError):
        return None
    if ledger.finished is not None and ledger.finished.stop_reason != "scorer failed":
        return None
    return Unfinished(run_dir, settings.brief, ledger.trials(), ledger.spent)
