"""The three evals from end to end on a tiny random pipeline: real images, judged by brightness."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from promptprobe.__main__ import main
from promptprobe.evals import cli, model, options
from promptprobe.evals.ablations.ablations import ABLATIONS, RETRAINED
from promptprobe.evals.ablations.networks import PAPER
from promptprobe.evals.baselines.features import FEATURE_BASELINES
from promptprobe.evals.bench import Bench
from promptprobe.evals.briefs import held_out
from promptprobe.evals.fidelity import fidelity, plots, summary
from promptprobe.evals.fidelity.experiment import PREVIEW_DROPOUT, methods, run_experiment
from promptprobe.evals.gain import gain
from promptprobe.evals.gain.attribution import POOLS, pool, prompts_of
from promptprobe.evals.sampling import sample
from promptprobe.evals.statistics import best_of_n, pairwise
from promptprobe.tools.collect.collector import Collector, collect
from promptprobe.tools.models.built_in import built_in
from promptprobe.tools.records import Candidate, Score
from promptprobe.tools.scorers.scorer import Scorer
from promptprobe.tools.sprites.prompts import prompts
from tests.evals.random_probe import random_probe


def brightness(channel):
    """A judge whose scores differ between images: one colour channel's mean, scaled up."""

    def judge(brief, images):
        values = (images[..., channel].mean((1, 2)) / 255 * 997 % 1).tolist()
        return [Score(value=value, correct=value > 0.5) for value in values]

    return judge


@pytest.fixture
def bench(ddim_pipeline):
    from promptprobe.probe.families.family import Settings
    from promptprobe.probe.families.unet.stable_diffusion import StableDiffusion

    settings = Settings(4, 3.0, 32, 32)
    return Bench(
        "tiny",
        StableDiffusion(ddim_pipeline),
        settings,
        brightness(0),
        brightness(1),
        scorer="brightness",
        grader="other brightness",
        own=built_in("sprites"),
    )


def test_eval_model_reports_kinds_spread_phrasing_and_previews(bench):
    report = json.loads(json.dumps(model.evaluate(bench, 12, 4)))
    assert report["correct"]["all"]["scenes"] == 12
    assert set(report["correct"]) > {"one object", "counting", "position"}
    assert 0 < report["spread"]["best_of_4_minus_mean"]["value"] < 1
    assert report["phrasing"]["scenes"] == 6
    low, high = (report["phrasing"]["best_minus_worst"][end] for end in ("low", "high"))
    assert low < high
    assert report["preview"]["50.0%"]["step"] == 2
    assert list(cli.lines(report))


def test_eval_fidelity_reports_everything_that_the_protocol_asks_for(bench):
    report = json.loads(json.dumps(fidelity.report(run_experiment(bench, held_out(bench, 8), 4))))
    assert {"pairwise", "srcc", "srcc_ceiling", "excluded"} == set(report["within"])
    assert {"pcc", "srcc", "auc"} == set(report["pooled"])
    assert (report["step"], report["of"], report["n_prompts"], report["n_seeds"]) == (1, 4, 8, 4)
    assert report["probe"].startswith("none")
    # Four looks of 1 step and one finish of 3, two evaluations a step.
    curve = report["headroom"]["x0 preview at step 1"]
    assert curve[0]["nfe"] == 4 * 2 + 6
    assert curve[-1]["recovered"]["value"] == 1
    assert report["headroom"]["naive best-of-n"][-1]["recovered"]["value"] == 1
    baselines = report["baselines"]
    assert baselines["prompt only"]["within"]["pairwise"]["value"] == 0.5
    assert {"random", "coarse render in 1 steps", "latent statistics", *FEATURE_BASELINES} < set(
        baselines
    )
    assert baselines["coarse render in 3 steps"]["at_budget"] is None  # four of them cost too much
    assert set(report["over_steps"]) == {"1", "2"}
    assert report["for_training"]["pairs_that_differ"]["nfe"] == 4 * 2 + 2 * 6
    assert list(summary.lines(report))


@pytest.fixture
def probed(bench):
    """The bench with a random probe of two targets."""
    found = random_probe(bench.family, bench.settings, ("brightness score", "other"), (1,))
    return replace(bench, probe=found, probe_name="shipped", further={"other": brightness(1)})


def test_a_shipped_probe_is_what_fidelity_measures_with_its_interval_and_median(probed, tmp_path):
    drawn = run_experiment(probed, held_out(probed, 4), 2)
    report = fidelity.report(drawn)
    assert list(summary.lines(report))
    options.check_plots(tmp_path / "plots")
    made = plots.save(drawn, report, tmp_path / "plots")
    assert [path.name for path in made] == [
        f"tiny-{name}.png" for name in ("predicted", "steps", "headroom")
    ]
    for path in made:
        with Image.open(path) as picture:
            assert picture.width > 1000
    assert report["keep_rule"]["best_kept"]["value"] is not None
    other = report["further_targets"]["other"]
    assert other["pooled"]["pcc"]["value"] != report["pooled"]["pcc"]["value"]
    assert (
        other["within"] != other["blind"]["within"] or other["pooled"] != other["blind"]["pooled"]
    )
    # Two looks of 1 step and one finish of 3 cost more than the budget's share of two renders.
    assert report["rungs"] == {}
    assert (report["predictor"], report["probe"], report["step"]) == ("probe", "shipped", 1)
    assert report["calibration"]["coverage"]["value"] == 1
    assert report["calibration"]["mean_width"]["value"] == 1
    assert "0.25, the median of training" in report["positives"]
    rivals = {"x0 preview at step 1", "coarse render in 1 steps", PREVIEW_DROPOUT}
    assert rivals < set(report["baselines"])


def test_rivals_that_are_networks_are_trained_on_a_collection(bench, tmp_path):
    judge = Scorer(
        "brightness",
        lambda brief, images: bench.score(brief, np.stack([np.asarray(one) for one in images])),
    )
    collector = Collector("tiny", bench.family, bench.settings, (1, 2), (judge,))
    wanted = [*islice(prompts("train"), 4), *islice(prompts("validation"), 8)]
    collect(collector, tmp_path, wanted, 2)
    drawn = run_experiment(bench, held_out(bench, 4), 2, shards=tmp_path)
    found = methods(drawn)
    networks = [PAPER, *ABLATIONS, "our network on a coarse path of 1 steps"]
    assert [name for name, method in found.items() if method.trained] == networks
    ahead = fidelity.retrained(found, drawn.test.scores)
    assert list(ahead) == [name for name in networks if name != RETRAINED]
    rank = {name: pairwise(found[name].guesses, drawn.test.scores).value or 0 for name in networks}
    for name, by in ahead.items():
        assert by["pairwise"]["value"] == pytest.approx(rank[RETRAINED] - rank[name], abs=1e-3)
    rows = list(summary.networks(ahead))[2:-1]
    assert [row.split(" | ")[0] for row in rows] == [f"| {name}" for name in ahead]
    with pytest.raises(ValueError, match=r"collected after \(1, 2\) steps, but 3 were requested"):
        methods(run_experiment(bench, held_out(bench, 4), 2, step=3, shards=tmp_path))


def test_a_look_that_goes_on_ends_with_the_same_images_as_one_pass(bench):
    pairs = [("a red cat", 1), ("a blue car", 2)]
    looked = sample(bench, pairs, [1])
    np.testing.assert_array_equal(looked.images, sample(bench, pairs).images)


def test_eval_gain_keeps_prompt_seed_and_returned_image_apart(bench):
    def best_of_two(brief: str, seed: int, out: Path) -> SimpleNamespace:
        """An optimizer that draws the brief with two seeds and returns the brighter image."""
        drawn = sample(bench, [(brief, seed), (brief, seed + 1)]).images
        trials = []
        for at, pixels in enumerate(drawn):
            Image.fromarray(pixels).save(image := out / f"{at}.png")
            candidate = Candidate(prompt=brief, seed=seed + at)
            value = bench.score(brief, pixels[None])[0].value
            trials.append(SimpleNamespace(candidate=candidate, image=image, value=value))
        best = int(np.argmax([trial.value for trial in trials]))
        spent = SimpleNamespace(nfe=64, seconds=0.1)
        return SimpleNamespace(
            initial=trials[0], best=trials[best], spent=spent, stop_reason="budget spent",
            run_dir=out,
        )  # fmt: skip

    report = json.loads(
        json.dumps(gain.evaluate(bench, held_out(bench, 6), 4, optimize=best_of_two))
    )
    score = report["score"]
    assert report["renders_at_equal"]["nfe"] == report["most_naive_renders"] == 8
    assert report["prompt_changed"]["value"] == 0
    assert score["prompt_gain"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert score["seed_gain"] == score["returned_gain"]
    assert "best-of-n at equal nfe" in score["returned_minus"]
    shares = report["against_first_image"]
    assert sum(shares[part]["value"] for part in ("worse", "better", "tied")) == pytest.approx(1)
    worse = shares["worse_briefs"]
    assert len(worse) / report["n_prompts"] == pytest.approx(shares["worse"]["value"], abs=1e-4)
    assert all(one["scorer_first"] <= one["scorer_returned"] for one in worse)
    attribution = report["attribution"]
    assert (attribution["candidates"], attribution["step"]) == (4, 1)
    for name in POOLS:
        check_choosers(attribution[name]["score"])


def check_choosers(picked: dict[str, Any]) -> None:
    choosers = {"random", "x0 preview", "scorer, all finished"}
    differences = {"x0 preview minus random", "scorer, all finished minus x0 preview"}
    assert set(picked) == choosers | differences
    for difference in differences:
        one, other = difference.split(" minus ")
        assert picked[difference]["value"] == pytest.approx(
            picked[one]["value"] - picked[other]["value"], abs=2e-4
        )


def test_every_pool_of_an_attribution_has_the_same_seeds_and_a_chooser_shares_its_ties(bench):
    brief = "a scarlet kitty"
    offered = prompts_of(bench, brief)
    assert tuple(offered) == POOLS
    assert offered["common words"] == ["a red cat"]
    texts = offered["all rewrites"]
    assert len(set(texts)) == 4
    assert texts[:2] == [brief, "a red cat"]
    assert pool(texts, [7, 8, 9, 10, 11]) == [*zip(texts, [7, 8, 9, 10], strict=True), (brief, 11)]
    guess, value = np.array([[1.0, 1.0, 0.0]]), np.array([[0.2, 0.6, 0.9]])
    assert best_of_n(guess, 3, value) == pytest.approx([0.4])


@pytest.mark.parametrize(
    "argv", [["nothing"], ["model", "--seeds", "1"], ["gain", "--x"], ["model", "--model", "x"]]
)
def test_bad_usage_exits_with_two_and_says_why(argv, capsys):
    assert main(["eval", *argv]) == 2
    assert capsys.readouterr().err.startswith("promptprobe eval")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["fidelity", "--prompts", "99999"], "scenes of split test, got 99999"),
        (["gain", "--prompts", "1"], "expected at least 2 scenes, got 1"),
        (["gain", "--prompts", "9", "--most", "2"], "--most counts prompts of a file"),
        (["fidelity", "--prompts", "x", "--split", "composition"], "a built-in model's scenes"),
        (["gain", "--policy", "lucky"], "expected naive, until-good, planned; got 'lucky'"),
    ],
)
def test_prompts_that_cannot_be_meant_are_an_error_before_anything_is_drawn(
    argv, said, bench, monkeypatch, capsys
):
    monkeypatch.setattr("promptprobe.evals.bench.open_bench", lambda model, generation, **_: bench)
    assert main(["eval", *argv]) == 2
    assert said in capsys.readouterr().err
