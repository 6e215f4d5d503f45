"""Other settings: a probe holds where it ranks and covers as at home, on the same candidates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from promptprobe.probe.model.card import Check, ModelSpec
from promptprobe.probe.model.checkpoint import load_probe
from promptprobe.probe.training.dataset import split
from promptprobe.probe.training.shards import Examples, Row, open_collection, write_shard
from promptprobe.probe.training.train_probe import train_probe
from promptprobe.probe.training.trainer import TrainConfig
from promptprobe.probe.training.validate import validate_setting
from tests.probe.planted import COLLECTION, FACTS, SEEDS, TARGETS, WINDOWS, at, planted

EXAMPLES = planted(60)
CALIBRATION = {
    (EXAMPLES.rows[i].prompt, EXAMPLES.rows[i].seed)
    for group in split(EXAMPLES, TARGETS[0]).calibration
    for i in group
}
FIFTEEN = FACTS.model_copy(
    update={"steps": 15, "timesteps": tuple(999 - 1000 / 15 * step for step in range(15))}
)
Scored = Callable[[Row], float]


def write(folder: Path, examples: Examples, facts: ModelSpec, windows: tuple[int, ...]) -> Path:
    open_collection(folder, COLLECTION.model_copy(update={"facts": facts, "windows": windows}))
    everything = range(len(examples))
    traces = {k: at(examples, everything, place)[0] for place, k in enumerate(windows)}
    write_shard(folder / "shard-00000.safetensors", traces, examples.rows)
    return folder


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    shards = write(folder / "shards", EXAMPLES, FACTS, WINDOWS)
    train_probe(shards, folder / "probe", TrainConfig(epochs=3, lr=8e-3, ema=0.9, width=8))
    return folder / "probe"


def checked(probe: Path, folder: Path, score: Scored) -> Check:
    """In 15 steps the traces are those at home, after 1 and 3 steps, and the scores are these."""
    rows = tuple(
        row.model_copy(update={"scores": {TARGETS[0]: score(row)}}) for row in EXAMPLES.rows
    )
    shards = write(folder, replace(EXAMPLES, rows=rows), FIFTEEN, (1, 3))
    return validate_setting(load_probe(probe), shards, CALIBRATION, "steps", 15.0)


def as_before(row: Row) -> float:
    return row.scores[TARGETS[0]]


def test_where_all_is_as_at_home_the_figures_are_the_card_s_own(
    probe: Path, tmp_path: Path
) -> None:
    found = checked(probe, tmp_path, as_before)
    card = load_probe(probe).card
    ranks, widths = (
        [window.figures[TARGETS[0]][name] for window in card.windows]
        for name in ("within_pairwise", "interval_width")
    )
    assert found.holds
    assert found.candidates == len(CALIBRATION) < len(EXAMPLES) / 3
    assert found.within_pairwise == pytest.approx(sum(ranks) / 2, abs=1e-4)
    assert found.within_pairwise_home == pytest.approx(sum(ranks) / 2, abs=1e-4)
    assert found.interval_width == pytest.approx(sum(widths) / 2, abs=1e-4)
    assert found.coverage is not None
    assert found.coverage >= card.coverage


def test_it_does_not_hold_where_seeds_rank_otherwise(probe: Path, tmp_path: Path) -> None:
    scores = {(row.prompt, row.seed): as_before(row) for row in EXAMPLES.rows}
    found = checked(probe, tmp_path, lambda row: scores[row.prompt, (row.seed + 1) % SEEDS])
    assert found.within_pairwise is not None
    assert found.within_pairwise_home is not None
    assert found.within_pairwise < 0.95 * found.within_pairwise_home
    assert not found.holds


def test_it_does_not_hold_where_intervals_miss_though_seeds_rank_alike(
    probe: Path, tmp_path: Path
) -> None:
    found = checked(probe, tmp_path, lambda row: 0.2 * as_before(row))
    home = checked(probe, tmp_path / "home", as_before)
    assert found.within_pairwise == pytest.approx(home.within_pairwise, abs=0.05)
    assert found.coverage is not None
    assert found.coverage < 0.87
    assert not found.holds


def test_it_does_not_hold_where_no_two_scores_differ(probe: Path, tmp_path: Path) -> None:
    found = checked(probe, tmp_path, lambda row: 0.5)
    assert found.within_pairwise is None
    assert not found.holds
