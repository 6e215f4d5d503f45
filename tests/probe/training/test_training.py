"""Training: it learns what is planted, promises what it keeps, and says what it lacks."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest
import torch

from promptprobe.probe.model.calibration import conformal_margin, score_scale
from promptprobe.probe.model.card import check
from promptprobe.probe.model.checkpoint import Probe, load_probe
from promptprobe.probe.model.network import Network, Output
from promptprobe.probe.training.dataset import (
    Dataset,
    groups_of,
    pairwise_accuracy,
    places,
    scale,
    split,
)
from promptprobe.probe.training.losses import loss
from promptprobe.probe.training.shards import Examples, open_collection, write_shard
from promptprobe.probe.training.train_probe import calibrated, examine, train_probe
from promptprobe.probe.training.trainer import TrainConfig, fit
from promptprobe.probe.training.warm_start import WarmStart
from tests.probe.planted import COLLECTION, FACTS, SEEDS, TARGETS, WINDOWS, a_card, at, planted

PLAN = TrainConfig(epochs=6, lr=8e-3, ema=0.9, width=8)


def school_of(examples: Examples) -> Dataset:
    train = split(examples, TARGETS[0]).train
    return Dataset(examples, tuple(scale(examples, train, name) for name in TARGETS))


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return school_of(planted(150))


@pytest.fixture(scope="module")
def network(dataset: Dataset) -> Network:
    return fit(dataset, split(dataset.examples, TARGETS[0]), PLAN)


@pytest.mark.parametrize("window", [0, 1])
def test_seeds_of_a_prompt_are_ranked_by_where_its_noun_looks(
    dataset: Dataset, network: Network, window: int
) -> None:
    fresh = replace(dataset, examples=planted(30, seed=1))
    everything = range(len(fresh.examples))
    output = fresh.predict(network, everything, window, blind=True)
    truth = fresh.batch(everything, torch.zeros(len(everything), dtype=torch.long)).scores
    groups = groups_of(fresh.examples.rows)
    assert pairwise_accuracy(output.logit[:, 0], truth[:, 0], groups) > 0.75
    assert pairwise_accuracy(output.logit[:, 1], truth[:, 1], groups) > 0.75


def test_a_noun_that_will_not_be_drawn_is_told_from_one_that_will(
    dataset: Dataset, network: Network
) -> None:
    fresh = replace(dataset, examples=planted(30, seed=1))
    everything = range(len(fresh.examples))
    batch = fresh.batch(everything, torch.ones(len(everything), dtype=torch.long))
    said, known = fresh.predict(network, everything, 1, blind=True).words, ~batch.words.isnan()
    missing, drawn = (said[known & (batch.words == value)] for value in (0.0, 1.0))
    assert (drawn[:, None] > missing[None]).float().mean() > 0.8


def test_the_calibrated_interval_holds_nine_of_ten_fresh_candidates(
    dataset: Dataset, network: Network
) -> None:
    parts = split(dataset.examples, TARGETS[0])
    [_, window] = examine(network, dataset, parts, COLLECTION)
    fresh = replace(dataset, examples=planted(100, seed=2))
    everything = range(len(fresh.examples))
    output, truth = fresh.predict(network, everything, 1), fresh.scores(everything)
    for place, calibration in enumerate(window.calibration):
        _, low, high = calibration.of(*output.target(place))
        inside = (low <= truth[:, place]) & (truth[:, place] <= high)
        assert 0.84 < float(inside.float().mean()) < 0.97
    assert window.figures[TARGETS[0]]["interval_width"] < 0.6
    assert window.figures[TARGETS[0]]["within_pairwise_preview"] > 0.6
    # Nobody scored the previews for the second target, so there is nothing to compare it with.
    assert list(window.comparisons) == [TARGETS[0]]
    found = window.comparisons[TARGETS[0]]
    assert found.prompts == len(parts.calibration)
    assert found.preview == window.figures[TARGETS[0]]["within_pairwise_preview"]
    assert found.difference == pytest.approx(found.probe - found.preview, abs=2e-4)
    assert window.beats_preview(TARGETS[0]) == (found.finding == "better")
    assert window.beats_preview(TARGETS[1])


def test_the_same_seed_trains_the_same_network(dataset: Dataset) -> None:
    parts, short = split(dataset.examples, TARGETS[0]), replace(PLAN, epochs=1)
    one, two = (fit(dataset, parts, short).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_training_that_was_killed_ends_as_one_that_was_not(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from promptprobe.probe.training.trainer import _Trainer

    parts, short = split(dataset.examples, TARGETS[0]), replace(PLAN, epochs=3)
    whole = fit(dataset, parts, short).state_dict()
    epoch = _Trainer.epoch

    def dies(trainer: _Trainer) -> None:
        if trainer.done == 2:
            raise KeyboardInterrupt
        epoch(trainer)

    monkeypatch.setattr(_Trainer, "epoch", dies)
    with pytest.raises(KeyboardInterrupt):
        fit(dataset, parts, short, tmp_path / "training.pt")
    monkeypatch.setattr(_Trainer, "epoch", epoch)
    resumed = fit(dataset, parts, short, tmp_path / "training.pt").state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_checkpoint_of_other_examples_is_not_gone_on_with(tmp_path: Path) -> None:
    short, saved = replace(PLAN, epochs=1), tmp_path / "training.pt"
    few, more = school_of(planted(24)), school_of(planted(30))
    fit(few, split(few.examples, TARGETS[0]), short, saved)
    parts = split(more.examples, TARGETS[0])
    fresh = fit(more, parts, short).state_dict()
    after = fit(more, parts, short, saved).state_dict()
    assert all(torch.equal(fresh[name], after[name]) for name in fresh)


def test_training_leaves_the_random_numbers_of_others_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    few = school_of(planted(24))
    fit(few, split(few.examples, TARGETS[0]), replace(PLAN, epochs=1))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_prompt_s_seeds_stay_together(dataset: Dataset) -> None:
    groups = groups_of(dataset.examples.rows)
    assert {len(group) for group in groups} == {SEEDS}
    assert sorted(chain(*groups)) == list(range(len(dataset.examples)))


def test_a_prompt_that_both_splits_hold_is_trained_on_alone() -> None:
    examples = planted(24)
    rows = tuple(
        row.model_copy(update={"scene": "scene 3", "prompt": "prompt 3"})
        if row.split == "validation" and row.prompt == "prompt 2"
        else row
        for row in examples.rows
    )
    parts = split(replace(examples, rows=rows), TARGETS[0])
    validating = chain(*parts.selection, *parts.calibration)
    assert {rows[at].prompt for at in validating}.isdisjoint({"prompt 2", "prompt 3"})


def test_the_ranking_loss_looks_only_within_prompts() -> None:
    scores = torch.tensor([[1.0], [0.0]])
    logit = torch.tensor([[-1.0], [1.0]])
    output = Output(logit, torch.zeros(2, 1), torch.ones(2, 1), torch.zeros(2, 1))
    words = torch.full((2, 1), torch.nan)
    apart = loss(output, scores, words, torch.tensor([0, 1]))
    together = loss(output, scores, words, torch.tensor([0, 0]))
    assert together - apart == pytest.approx(0.5 * math.log(1 + math.exp(4)), rel=1e-5)


def test_what_is_not_known_teaches_nothing() -> None:
    output = Output(torch.randn(3, 2), torch.zeros(3, 2), torch.ones(3, 2), torch.randn(3, 4))
    group = torch.tensor([0, 0, 0])
    scores, words = torch.rand(3, 2), torch.full((3, 4), torch.nan)
    scores[2] = torch.nan
    words[0, 1] = 1.0
    first = loss(output, scores, words, group)
    output.logit[2] += 5
    output.words[1] += 5
    assert loss(output, scores, words, group) == first
    output.words[0, 1] += 5
    assert loss(output, scores, words, group) < first


def test_tied_seeds_are_no_pair_and_tied_predictions_count_half() -> None:
    score = torch.tensor([1.0, 0.0, 0.0, 1.0])
    groups = [[0, 1, 2], [3]]
    assert pairwise_accuracy(torch.tensor([0.9, 0.9, 0.1, 0.0]), score, groups) == 0.75
    assert math.isnan(pairwise_accuracy(score, score, [[0, 3], [1, 2]]))


def test_held_out_seeds_are_ranked_by_scores_beyond_those_that_training_knew() -> None:
    near = planted(30)
    rows = (
        row.model_copy(update={"scores": {n: 100 + score for n, score in row.scores.items()}})
        if row.split == "validation"
        else row
        for row in near.rows
    )
    found = []
    for examples in (near, replace(near, rows=tuple(rows))):
        dataset, splits = school_of(examples), split(examples, TARGETS[0])
        network = fit(dataset, splits, replace(PLAN, epochs=2))
        steps = examine(network, dataset, splits, COLLECTION)
        assert all("within_pairwise" in one.figures[name] for one in steps for name in TARGETS)
        found.append((network.state_dict(), [one.comparisons for one in steps]))
    (weights, compared), (others, far_away) = found
    assert compared == far_away
    assert all(torch.equal(weights[name], others[name]) for name in weights)


def test_the_margin_is_the_conformal_quantile_of_what_fell_outside() -> None:
    score = torch.arange(1, 20) / 20
    low, high = torch.zeros(19), torch.full((19,), 0.5)
    # Outside by .05, .10 ... .45; with n = 19, rank ceil(20 x .9) = 18 of 19.
    assert conformal_margin(score, low, high) == pytest.approx(0.40)


def test_too_few_candidates_to_calibrate_give_the_widest_interval() -> None:
    few = torch.full((5,), 0.5)
    assert conformal_margin(few, few - 0.1, few + 0.1) == 1.0


def test_without_a_validation_split_it_says_what_to_collect() -> None:
    examples = planted(24)
    rows = tuple(row.model_copy(update={"split": "train"}) for row in examples.rows)
    with pytest.raises(ValueError, match=r"no prompt for selection .*collect more"):
        split(replace(examples, rows=rows), TARGETS[0])


def test_a_score_that_never_differs_is_named() -> None:
    examples = planted(24)
    rows = tuple(row.model_copy(update={"scores": {"x": 0.5}}) for row in examples.rows)
    examples = replace(examples, rows=rows)
    with pytest.raises(ValueError, match="the x is the same for all of"):
        scale(examples, groups_of(rows), "x")


def test_shards_become_a_probe_folder_with_an_honest_card(tmp_path: Path) -> None:
    open_collection(tmp_path / "shards", COLLECTION)
    examples = planted(30)
    everything = range(len(examples))
    traces = {k: at(examples, everything, place)[0] for place, k in enumerate(WINDOWS)}
    write_shard(tmp_path / "shards/0.safetensors", traces, examples.rows)

    card = train_probe(tmp_path / "shards", tmp_path / "probe", replace(PLAN, epochs=1))

    probe = load_probe(tmp_path / "probe")
    assert probe.card == card
    check(card, FACTS)
    trained_on = [row for row in examples.rows if row.split == "train"]
    assert card.candidates == len(trained_on) == card.prompts * SEEDS
    assert [target.name for target in card.targets] == list(TARGETS)
    scores = sorted(row.scores[TARGETS[0]] for row in trained_on)
    assert card.targets[0].median == pytest.approx(scores[len(scores) // 2 - 1])
    assert (card.targets[0].low, card.targets[0].high) == pytest.approx((scores[0], scores[-1]))
    assert [window.k for window in card.windows] == list(WINDOWS)
    assert len(probe.predict(traces[2], 2)) == len(examples)


def test_scores_are_as_sure_as_they_are_right() -> None:
    logit = torch.linspace(-4, 4, 201)
    found = score_scale(logit, torch.sigmoid(0.5 * logit + 0.3))
    assert found == pytest.approx((0.5, 0.3), abs=1e-2)
    assert score_scale(logit, torch.sigmoid(-logit)) == (1, 0)  # the order stays as it is


def test_the_scores_of_a_window_are_rescaled_and_its_ranks_stay(
    dataset: Dataset, network: Network
) -> None:
    chosen = list(chain(*split(dataset.examples, TARGETS[0]).selection))
    said, scores = dataset.predict(network, chosen, 1), dataset.scores(chosen)
    unsure = said._replace(logit=3 * said.logit - 1)
    for place in range(len(TARGETS)):
        found = calibrated((unsure, scores), (unsure, scores), place)
        before, (after, *_) = unsure.logit[:, place].sigmoid(), found.of(*unsure.target(place))
        assert torch.equal(before.argsort(), after.argsort())
        errors = [float((x - scores[:, place]).square().mean()) for x in (before, after)]
        assert errors[1] < errors[0]


def test_a_start_hands_over_what_means_the_same(dataset: Dataset, network: Network) -> None:
    card = a_card(network.shape)
    known = Probe(network, card)
    fresh = Network(network.shape.model_copy(update={"windows": 3, "targets": 2}))
    own = copy.deepcopy(fresh.state_dict())
    WarmStart(known, (1, 4, 5), ("a new score", TARGETS[0])).into(fresh)
    assert torch.equal(fresh.window.weight, network.window.weight[[0, 1, 1]])
    new, old = fresh.state_dict(), network.state_dict()
    assert torch.equal(new["score.3.weight"][1], old["score.3.weight"][0])
    assert torch.equal(new["score.3.weight"][0], own["score.3.weight"][0])
    assert torch.equal(new["spread.3.bias"][[1, 3]], old["spread.3.bias"][[0, 2]])
    assert torch.equal(fresh.stem.weight, network.stem.weight)
    with pytest.raises(ValueError, match="has width 8, but this training needs 16: start from"):
        WarmStart(known, (5,), TARGETS).into(
            Network(network.shape.model_copy(update={"width": 16}))
        )


def test_training_begins_where_its_start_ended(dataset: Dataset, network: Network) -> None:
    parts = split(dataset.examples, TARGETS[0])
    start = WarmStart(Probe(network, a_card(network.shape)), WINDOWS, TARGETS)
    once = replace(PLAN, epochs=1)
    ranks = []
    for begun in (None, start):
        chosen = list(chain(*parts.selection))
        said = dataset.predict(fit(dataset, parts, once, start=begun), chosen, 1).logit[:, 0]
        ranks.append(pairwise_accuracy(said, dataset.scores(chosen)[:, 0], places(parts.selection)))
    assert ranks[1] > ranks[0] + 0.1
