"""The eval of time and memory, from end to end on tiny random pipelines."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from promptprobe.__main__ import main
from promptprobe.evals import cli
from promptprobe.evals.overhead import overhead, rival_capture, thresholds, timing
from promptprobe.evals.overhead.synthetic_models import SHAPES, MeasurePlan, SyntheticModel

PARAMETERS = {"sd15": 859_520_964, "sdxl": 2_567_463_684, "flux": 11_901_408_320}
"""Of the real denoisers, as published."""
PLAN = MeasurePlan(32, 64, 2, steps=4, k=2, rounds=2, full=True, dtype="float32")
WAYS = ("ours", rival_capture.COMPARABLE, rival_capture.DEFAULT)
needs_rival = pytest.mark.skipif(not rival_capture.installed(), reason=rival_capture.ABSENT)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """On a busy machine, two that wait for each other take many times as long."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tiny(ddim_folder) -> dict[str, SyntheticModel]:
    def make(full: bool) -> Any:
        from diffusers import StableDiffusionPipeline

        return StableDiffusionPipeline.from_pretrained(ddim_folder)

    made = SyntheticModel(
        "tiny", "StableDiffusionPipeline", make, "nothing",
        guidance=3.0, cpu=PLAN, cuda=PLAN, prompts=("a red cat", "a blue car"),
    )  # fmt: skip
    return {"tiny": made}


def measured(tiny, **options):
    return json.loads(json.dumps(overhead.evaluate(names=("tiny",), shapes=tiny, **options)))


@pytest.fixture(scope="module")
def report(tiny):
    return measured(tiny)


def test_a_report_has_three_cases_with_positive_finite_ratios_and_six_thresholds(report):
    shape = report["shapes"]["tiny"]
    assert [(case["batch"], case["pixels"]) for case in shape["cases"].values()] == [
        (1, 32), (1, 64), (2, 32)
    ]  # fmt: skip
    for case in shape["cases"].values():
        assert case["rounds"] == 2
        for row in (case["plain"], case["ours"]):
            assert all(0 < row["time"][end] < math.inf for end in ("value", "low", "high"))
            assert row["memory"] is None or 0 < row["memory"] < math.inf
    assert shape["layers"] > 0
    assert shape["cnn"]["weights"] == "random"
    assert shape["cnn"]["of_step"]["value"] > 0
    assert len(report["thresholds"]) == 6
    assert {threshold["met"] for threshold in report["thresholds"]} <= {True, False, None}
    assert report["machine"]["threads"] > 0
    assert "thresholds, for the batch" in list(thresholds.lines(report))


def test_without_the_rival_its_rows_say_how_to_install_it(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "attention_map_diffusers", None)
    report = measured(tiny, rounds=1)
    assert "pip install --no-deps attention-map-diffusers==1.0.0" in report["rival"]["version"]
    batch = report["shapes"]["tiny"]["cases"]["batch"]
    assert [batch[way]["failed"] for way in WAYS[1:]] == [rival_capture.ABSENT] * 2
    against = next(
        threshold for threshold in report["thresholds"] if "rival" in threshold["threshold"]
    )
    assert (against["met"], against["why"]) == (None, rival_capture.ABSENT)


@needs_rival
def test_the_rival_is_asked_for_our_layers_and_as_many_queries(report):
    batch = report["shapes"]["tiny"]["cases"]["batch"]
    assert batch[rival_capture.COMPARABLE]["layers"] == report["shapes"]["tiny"]["layers"]
    assert all(batch[way]["time"]["value"] > 0 for way in WAYS)


def test_a_family_that_is_not_known_is_skipped_before_anything_is_built(tiny):
    def never(full: bool) -> None:
        raise AssertionError("built")

    unknown = {"tiny": replace(tiny["tiny"], pipeline="NoSuchPipeline", make=never)}
    report = measured(unknown)
    assert "NoSuchPipeline" in report["shapes"]["tiny"]["skipped"]
    assert report["thresholds"] == []
    assert any("skipped" in line for line in thresholds.lines(report))


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_full_shape_has_as_many_parameters_as_the_real_model(name):
    assert parameters(SHAPES[name].make(True)) == PARAMETERS[name]


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_reduced_shape_keeps_every_width_and_has_fewer_parameters(name):
    reduced, full = (SHAPES[name].make(whole) for whole in (False, True))
    assert parameters(reduced) < parameters(full) / 1.4
    assert widths(reduced) == widths(full)


def denoiser(pipeline: Any) -> Any:
    return pipeline.components.get("unet") or pipeline.transformer


def parameters(pipeline: Any) -> int:
    return sum(weight.numel() for weight in denoiser(pipeline).parameters())


def widths(pipeline: Any) -> set[tuple[int, ...]]:
    """Sizes of the projections of queries and keys in all attention layers."""
    return {
        tuple(weight.shape)
        for name, weight in denoiser(pipeline).named_parameters()
        if name.endswith(("to_q.weight", "to_k.weight"))
    }


def test_a_threshold_without_memory_or_with_other_layers_is_open():
    ours = {"time": dict.fromkeys(("value", "low", "high"), 1.01), "memory": None}
    ours["of_rival"] = ours["added_seconds"] = {"value": 0.9, "low": 0.8, "high": 1.0}
    case = {"batch": 2, "pixels": 8, "ours": ours, "rival_comparable": {"layers": 1}}
    shape = {"layers": 2, "cases": dict.fromkeys(("one", "larger", "batch"), case)}
    shape["cnn"] = {"of_step": {"value": 0.01, "low": 0.01, "high": 0.01}}
    found = thresholds.thresholds_of({"flux": shape}, "cpu")
    assert [threshold["met"] for threshold in found] == [True, None, None, True, True, True]
    assert found[2]["why"] == "the rival captures 1 layers, we 2"


def test_every_round_begins_with_another_one():
    seen: list[str] = []
    runs = {name: lambda name=name: seen.append(name) for name in "abc"}
    assert all(set(lap) == set("abc") for lap in timing.in_turns(runs, 3, "cpu"))
    assert "".join(seen) == "abcbcacab"


@pytest.mark.parametrize("argv", [["--shapes", "nothing"], ["--rounds", "0"], ["--device", "tpu"]])
def test_bad_usage_of_overhead_exits_with_two(argv, capsys):
    assert main(["eval", "overhead", *argv]) == 2
    assert capsys.readouterr().err.startswith("promptprobe eval overhead: error: ")


def test_shapes_are_taken_in_the_order_given_and_once():
    assert cli.shape_names("sdxl,sprites,sdxl") == ("sdxl", "sprites")
