"""Training: it learns what is planted, promises what it keeps, and says what it lacks."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest
import torch

from promptprobe.probe.calibration import calibrated, conformal_margin
from promptprobe.probe.card import check, load_probe
from promptprobe.probe.losses import loss
from promptprobe.probe.network import Output
from promptprobe.probe.shards import Collection, Examples, open_collection, write_shard
from promptprobe.probe.training import (
    Plan,
    Trained,
    groups_of,
    make_probe,
    pairwise_accuracy,
    predict,
    train,
)
from tests.probe.planted import FACTS, SEEDS, planted

PLAN = Plan(epochs=5, lr=8e-3, ema=0.9)


@pytest.fixture(scope="module")
def examples() -> Examples:
    return planted(150)


@pytest.fixture(scope="module")
def trained(examples: Examples) -> Trained:
    return train(examples, PLAN, width=8)


def test_seeds_of_a_prompt_are_ranked_by_where_its_noun_looks(
    trained: Trained,
) -> None:
    fresh = planted(30, seed=1)
    score, _, _ = predict(trained.network, fresh, range(len(fresh)))
    truth = torch.tensor([row.score for row in fresh.rows])
    assert pairwise_accuracy(score, truth, groups_of(fresh, range(len(fresh)))) > 0.8
    assert trained.figures["within_pairwise_network_alone"] > 0.8


def test_the_calibrated_interval_holds_nine_of_ten_fresh_candidates(
    trained: Trained,
) -> None:
    fresh = planted(100, seed=2)
    seen = torch.tensor([row.preview for row in fresh.rows])
    views = predict(trained.network, fresh, range(len(fresh)))
    score, low, high = (trained.stack(view, seen) for view in views)
    low, high = calibrated(score, low, high, trained.margin)
    truth = torch.tensor([row.score for row in fresh.rows])
    held = float(((truth >= low) & (truth <= high)).float().mean())
    assert 0.84 < held < 0.96
    assert trained.figures["interval_width"] < 0.6


def test_the_same_seed_trains_the_same_network(examples: Examples) -> None:
    short = replace(PLAN, epochs=1)
    one, two = (train(examples, short, width=8).network.state_dict() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_training_leaves_the_random_numbers_of_others_alone(examples: Examples) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    train(examples, replace(PLAN, epochs=1), width=8)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_prompt_s_seeds_stay_together(examples: Examples) -> None:
    groups = groups_of(examples, range(len(examples)))
    assert {len(group) for group in groups} == {SEEDS}
    assert sorted(chain(*groups)) == list(range(len(examples)))


def test_the_ranking_loss_looks_only_within_prompts() -> None:
    score = torch.tensor([1.0, 0.0])
    logit = torch.tensor([-1.0, 1.0])
    output = Output(logit, torch.zeros(2), torch.ones(2))
    apart = loss(output, score, torch.tensor([0, 1]))
    together = loss(output, score, torch.tensor([0, 0]))
    assert together - apart == pytest.approx(0.5 * math.log(1 + math.exp(4)), rel=1e-5)


def test_tied_seeds_are_no_pair_and_tied_predictions_count_half() -> None:
    score = torch.tensor([1.0, 0.0, 0.0, 1.0])
    groups = [[0, 1, 2], [3]]
    assert pairwise_accuracy(torch.tensor([0.9, 0.9, 0.1, 0.0]), score, groups) == 0.75
    assert math.isnan(pairwise_accuracy(score, score, [[0, 3], [1, 2]]))


def test_the_margin_is_the_conformal_quantile_of_what_fell_outside() -> None:
    score = torch.arange(1, 20) / 20
    low, high = torch.zeros(19), torch.full((19,), 0.5)
    # Outside by .05, .10 ... .45; with n = 19, rank ceil(20 x .9) = 18 of 19.
    assert conformal_margin(score, low, high) == pytest.approx(0.40)


def test_too_few_candidates_to_calibrate_give_the_widest_interval() -> None:
    few = torch.full((5,), 0.5)
    assert conformal_margin(few, few - 0.1, few + 0.1) == 1.0


def test_without_a_validation_split_it_says_what_to_collect(examples: Examples) -> None:
    rows = tuple(row.model_copy(update={"split": "train"}) for row in examples.rows)
    with pytest.raises(ValueError, match=r"no prompt for selection .*collect more"):
        train(replace(examples, rows=rows), PLAN, width=8)


def test_shards_become_a_probe_folder_with_an_honest_card(tmp_path: Path) -> None:
    collection = Collection(
        model="tiny",
        target="planted",
        seeds=SEEDS,
        per_shard=30,
        rendered_in="float32",
        facts=FACTS,
    )
    open_collection(tmp_path / "shards", collection)
    examples = planted(30)
    everything = range(len(examples))
    write_shard(tmp_path / "shards/0.safetensors", examples.batch(everything), examples.rows)

    card = make_probe(tmp_path / "shards", tmp_path / "probe", replace(PLAN, epochs=1))

    probe = load_probe(tmp_path / "probe")
    assert probe.card == card
    check(card, FACTS)
    trained_on = [row for row in examples.rows if row.split == "train"]
    assert card.candidates == len(trained_on) == card.prompts * SEEDS
    assert card.median == pytest.approx(
        sorted(row.score or 0 for row in trained_on)[len(trained_on) // 2 - 1]
    )
    seen = torch.zeros(len(examples))
    assert len(probe.predict(examples.batch(everything), seen)) == len(examples)
