"""Replay on synthetic tables of the stored layout: the real ones may not be shipped."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from promptprobe.__main__ import main
from promptprobe.evals.selection import adaptive, policies, replay
from promptprobe.evals.selection.replay_command import POLICIES
from promptprobe.evals.selection.replay_shards import predictions_of, previews_of
from promptprobe.evals.selection.replay_table import (
    Table,
    checked,
    read_table,
    scorers_of,
)
from promptprobe.evals.statistics import best_of_n
from promptprobe.probe.model.checkpoint import load_probe, save_probe
from promptprobe.probe.model.network import Network, NetworkConfig
from promptprobe.probe.training.dataset import splits_of
from promptprobe.probe.training.shards import open_collection, read_shards, write_shard
from tests.probe.planted import COLLECTION, TARGETS, WINDOWS, a_card, at, planted

STEPS = (1, 2, 4, 6, 8, 10, 12, 15, 18)
RANKS = (0.02, 0.08, 0.25, 0.5, 0.68, 0.8, 0.87, 0.94, 0.98)


def made(prompts: int = 40, seeds: int = 80, ranks: tuple[float, ...] = RANKS) -> Table:
    """Gaussian scores within prompts that differ, and looks as a chain back from the score."""
    dice = np.random.default_rng(0)
    walk = dice.normal(size=(len(ranks), prompts, seeds))
    final = dice.normal(size=(prompts, seeds))
    looks, better, known = np.empty(walk.shape), final, 1.0
    for step in reversed(range(len(ranks))):
        share = ranks[step] / known
        better, known = share * better + (1 - share**2) ** 0.5 * walk[step], ranks[step]
        looks[step] = better
    means, spread = dice.normal(0, 2, (prompts, 1)), dice.uniform(0.5, 1.5, (prompts, 1))
    return checked(
        "made", 20, list(STEPS), (looks + means) * spread * 0.7, (final + means) * spread
    )


def written(folder: Path, table: Table) -> Path:
    path = folder / "made.npz"
    arrays: dict[str, Any] = {
        "steps": np.int32(table.total),
        "final/reward": table.final.astype(np.float32),
        "preview/reward": table.looks.astype(np.float32),
        "preview_steps/reward": np.array(table.steps, np.int32),
    }
    np.savez(path, **arrays)
    return path


def test_the_command_reports_each_policy_with_an_interval(tmp_path, capsys) -> None:
    path = written(tmp_path, made())
    began = time.process_time()
    assert main(["eval", "replay", "--table", str(path), "--budget", "4", "--json"]) == 0
    assert time.process_time() - began < 30
    report = json.loads(capsys.readouterr().out)
    assert list(report["policies"]) == list(POLICIES)
    for found in report["policies"].values():
        assert found["gain"]["low"] <= found["gain"]["value"] <= found["gain"]["high"]
    planned, naive = report["policies"]["planned"], report["policies"]["naive"]
    assert planned["minus_naive"]["low"] > 0.03
    assert planned["renders"] <= 4
    assert naive["gain"]["value"] == pytest.approx(0.73, abs=0.02)
    assert report["policies"]["keep-one"]["gain"]["value"] < naive["gain"]["value"]


def test_the_report_for_people_and_the_picture(tmp_path, capsys) -> None:
    path = written(tmp_path, made(20, 40))
    options = ["--budget", "2", "--budget", "4", "--policy", "planned", "--policy", "light"]
    options += ["--plot", str(tmp_path / "out")]
    assert main(["eval", "replay", "--table", str(path), "--scorer", "reward", *options]) == 0
    told = capsys.readouterr().out
    assert "| policy | 2 | 4 |" in told
    assert "- planned, made reward preview, 4: " in told
    assert (tmp_path / "out" / "search-preview.png").stat().st_size > 10_000


def test_several_tables_count_alike() -> None:
    first, second = made(20, 40), made(20, 40, tuple(0.5 * rank for rank in RANKS))
    report = replay.evaluate([first, second], ["planned"], [4.0])
    gains = [setting["4"]["planned"]["gain"]["value"] for setting in report["settings"]]
    assert report["policies"]["planned"]["gain"]["value"] == pytest.approx(np.mean(gains), abs=1e-3)


def test_where_looks_say_nothing_planned_is_naive() -> None:
    table = made(20, 40, tuple(0.001 for _ in RANKS))
    report = replay.evaluate([table], ["planned"], [3.0])
    assert report["policies"]["planned"]["minus_naive"]["value"] == 0


def test_a_policy_does_not_see_the_scores_that_it_is_judged_by() -> None:
    table = made(20, 40)
    fit, judged = table.rows(np.arange(10)), table.rows(np.arange(10, 20))
    lied = Table(judged.name, judged.total, judged.steps, judged.looks, -judged.final)
    for name in ("keep-one", "psp", "light", "planned"):
        honest = policies.POLICIES[name](fit, judged, 4)
        fooled = policies.POLICIES[name](fit, lied, 4)
        assert (honest.schedule, honest.renders) == (fooled.schedule, fooled.renders)
        assert honest.best.mean() > judged.final.mean() > -fooled.best.mean() - 1


def test_the_adaptive_index_prefers_the_better_predicted_and_the_nearer_to_its_end() -> None:
    explained = adaptive.known(made(10, 40).signal())
    bonus = adaptive.bonuses(explained, 0.01)
    assert bonus[-1] == 0
    assert bonus[15] < bonus[8]  # less is left to learn
    dear = adaptive.bonuses(explained, 0.05)
    assert (dear[:-1] < bonus[:-1]).all()


def test_with_looks_that_tell_all_the_adaptive_policy_finishes_the_best_looked_at() -> None:
    table = made(10, 40, (0.999999,) * len(STEPS))
    looks = {step: look[:, :6] for step, look in zip(STEPS, table.looks, strict=True)}
    best, spent = adaptive.run(looks, table.final[:, :6], table.signal(), 1, 40, 0.01)
    assert best == pytest.approx(table.final[:, :6].max(1))
    assert spent.max() <= 40


@pytest.mark.parametrize("renders", [1, 2, 2.8, 4, 5.6, 8])
def test_every_policy_that_holds_its_budget_spends_no_more(renders: float) -> None:
    table = made(20, 80)
    fit, judged = table.rows(np.arange(10)), table.rows(np.arange(10, 20))
    for name in ("keep-one", "psp", "light", "planned", "adaptive"):
        assert policies.POLICIES[name](fit, judged, renders).renders <= renders + 1e-9


def test_a_perfect_look_at_no_cost_finds_the_best_of_all_that_are_started() -> None:
    table = made(10, 40, (0.999999,) * len(STEPS))
    outcome = policies.keep_one(table, table, 2)
    step = 4
    assert outcome.schedule == "6 candidates, keep 1 after 4"
    assert outcome.renders == (6 * step + 20 - step) / 20
    assert outcome.best == pytest.approx(best_of_n(table.final, 6), rel=0.15, abs=0.15)


def test_the_old_light_rule_is_3_of_16_after_a_fifth_for_5_6_renders() -> None:
    table = made(10, 40)
    outcome = policies.light(table, table, 5.6)
    assert outcome.schedule == "16 candidates, keep 3 after 4"
    assert outcome.renders == pytest.approx(5.6)


def test_rendering_until_content_stops_there_and_takes_its_budget_on_average() -> None:
    table = made(30, 60)
    outcome = policies.until_content(table, table, 3)
    assert outcome.renders == pytest.approx(3, abs=0.01)
    blind = Table("", 20, STEPS, table.looks, np.full((30, 60), 1.0) + np.arange(60) * 1e-9)
    assert policies.until_content(blind, blind, 1).renders == pytest.approx(1, abs=0.01)


def judged_correct(prompts: int) -> Table:
    """Prompts from hard to easy, whose score has a ceiling: pictures that reach it are correct.
    Looks tell early."""
    table = made(prompts, 40, ranks=(0.3, 0.6, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99))
    looks, final = (
        (values - values.mean(-1, keepdims=True)) / values.std(-1, keepdims=True)
        for values in (table.looks, table.final)
    )
    ease = np.linspace(-1.5, 2, prompts)[:, None]
    return Table("", table.total, table.steps, looks + ease, np.minimum(final + ease, 0))


def test_looks_in_waves_find_a_correct_picture_sooner_than_rendering_until_there_is_one() -> None:
    fit, judged = judged_correct(40), judged_correct(30)
    outcome = policies.in_waves(fit, judged, 2)
    assert "2 at a time" in outcome.schedule
    assert outcome.renders == pytest.approx(2, rel=0.1)
    rival = policies.until_content(fit, judged, outcome.renders)
    assert outcome.best.mean() > rival.best.mean() + 0.02


def test_where_no_look_pays_waves_are_renders_until_content() -> None:
    deaf = made(30, 40, ranks=(0.01,) * 9)
    waves, rival = (policy(deaf, deaf, 3) for policy in (policies.in_waves, policies.until_content))
    assert (waves.renders, waves.schedule) == (rival.renders, rival.schedule)
    assert (waves.best == rival.best).all()


def test_a_signal_is_the_mean_rank_within_a_prompt() -> None:
    assert made(60, 100).signal().correlations == pytest.approx(RANKS, abs=0.03)


def test_scores_that_tie_take_nothing_from_a_rank() -> None:
    table = made(60, 100)
    halves = np.minimum(table.final, np.median(table.final, axis=1, keepdims=True))
    looks = np.stack([halves, table.final])  # one ties where the scores do, one never does
    tied = Table("", table.total, (2, 8), looks, halves)
    assert tied.signal().correlations == pytest.approx((1, 1))


# -- files -------------------------------------------------------------------------------------


def test_a_table_is_read_as_it_was_written(tmp_path) -> None:
    table = made(6, 10)
    path = written(tmp_path, table)
    assert scorers_of(path) == ("reward",)
    read = read_table(path, "reward", "preview")
    assert (read.total, read.steps) == (20, STEPS)
    assert read.looks == pytest.approx(table.looks, rel=1e-5)


@pytest.fixture
def collected(tmp_path: Path) -> Path:
    """Planted prompts of six seeds, as a training leaves them."""
    examples = planted(20)
    open_collection(tmp_path, COLLECTION)
    everything = range(len(examples))
    traces = {k: at(examples, everything, place)[0] for place, k in enumerate(WINDOWS)}
    write_shard(tmp_path / "0.safetensors", traces, examples.rows)
    return tmp_path


def test_the_shards_of_a_training_are_a_table_of_previews(collected) -> None:
    table = previews_of(collected, None)
    assert (table.total, table.steps) == (25, (5,))  # no preview was judged after 2 steps
    assert table.looks.shape == (1, 20, 6)
    assert table.final[1, 2] == planted(20).rows[8].scores[TARGETS[0]]
    by_scorer = previews_of(collected, TARGETS[0].removesuffix(" score"))
    assert (by_scorer.final == table.final).all()
    with pytest.raises(ValueError, match="has no beauty; it has planted score"):
        previews_of(collected, "beauty")


def test_a_prompt_with_more_seeds_than_the_others_costs_none_of_them(collected) -> None:
    rows = planted(20).rows
    again = [row.model_copy(update={"seed": row.seed + 1000}) for row in rows[:6]]
    traces = {k: at(planted(20), range(6), place)[0] for place, k in enumerate(WINDOWS)}
    write_shard(collected / "1.safetensors", traces, again)
    assert previews_of(collected, None).final.shape == (20, 6)


def test_a_collection_of_too_few_seeds_says_how_to_add_some(collected, capsys) -> None:
    assert main(["eval", "replay", "--shards", str(collected)]) == 2
    said = capsys.readouterr().err
    assert "expected 8 seeds or more for each prompt, got 6; the same promptprobe train" in said


def test_of_a_probe_only_what_it_says_of_held_out_prompts_is_a_table(collected, tmp_path) -> None:
    shape = NetworkConfig(layers=2, channels=2, dim=8, windows=2, targets=2, width=8)
    save_probe(tmp_path / "probe", Network(shape), a_card(shape))
    table = predictions_of(collected, None, tmp_path / "probe")
    examples = read_shards(collected)
    held_out = splits_of(examples.rows).calibration
    assert (table.steps, table.final.shape) == (WINDOWS, (len(held_out), 6))
    own, look = examples.batch(held_out[0], torch.zeros(6, dtype=torch.long))
    alone = load_probe(tmp_path / "probe").predict(own, WINDOWS[0], look)
    assert table.looks[0, 0] == pytest.approx([one.score for one in alone], abs=1e-4)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--signal", "trained"], "has no trained/reward; it has"),
        (["--scorer", "other"], "has no final/other; it has"),
        (["--policy", "best"], "expected some of naive, until-content"),
        (["--budget", "0.5"], "expected 1 to 10 renders for tables of 10 seeds"),
        (["--budget", "500"], "expected 1 to 10 renders for tables of 10 seeds"),
    ],
)
def test_what_a_table_lacks_is_one_line(tmp_path, capsys, options, said) -> None:
    path = written(tmp_path, made(6, 10))
    assert main(["eval", "replay", "--table", str(path), *options]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"final/reward": np.full((6, 10), np.nan, np.float32)}, "finite"),
        ({"final/reward": np.zeros((6, 9), np.float32)}, "expected looks"),
        ({"preview_steps/reward": np.arange(9)[::-1]}, "ascending"),
        ({"steps": np.arange(2)}, "one number of steps"),
    ],
)
def test_a_table_that_contradicts_itself_is_refused(tmp_path, change, said) -> None:
    path = written(tmp_path, made(6, 10))
    with np.load(path) as file:
        arrays = {**file, **change}
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=said):
        read_table(path, "reward", "preview")


def test_a_file_that_is_no_table_is_one_line(tmp_path, capsys) -> None:
    bad = tmp_path / "bad.npz"
    bad.write_bytes(b"not an archive")
    assert main(["eval", "replay", "--table", str(bad)]) == 2
    assert "expected an npz file" in capsys.readouterr().err
    assert main(["eval", "replay", "--table", str(tmp_path / "none.npz")]) == 1
    assert "none.npz" in capsys.readouterr().err
