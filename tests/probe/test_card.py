"""The probe on disk: nothing broken is loaded, and nothing is used outside what it was made for."""

from __future__ import annotations

import hashlib
import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save

from promptprobe.probe.card import (
    Card,
    Facts,
    Probe,
    ProbeError,
    check,
    facts_of,
    load_probe,
    save_probe,
)
from promptprobe.probe.families.stable_diffusion import StableDiffusion
from promptprobe.probe.family import Settings
from promptprobe.probe.network import Network, Shape
from promptprobe.probe.stacking import Stack
from promptprobe.probe.trace import record_trace
from tests.probe.planted import FACTS, planted

SHAPE = Shape(layers=2, channels=2, dim=8, width=8)
OTHER: dict[str, Any] = {
    "scheduler": "PNDMScheduler",
    "prediction_type": "epsilon",
    "dtype": "float16",
    "guidance": 7.5,
    "steps": 50,
    "k": 3,
    "timesteps": (981.0, 941.0),
    "height": 128,
    "width": 96,
    "negative_prompt": "blurry",
    "keys": "text and image",
    "layers": ("mid.attn2",),
    "weights": "b" * 64,
}


def a_card(shape: Shape = SHAPE) -> Card:
    return Card(
        model="tiny",
        ranges=FACTS,
        shape=shape,
        weights_sha256="0" * 64,
        target="sprites score",
        stack=Stack(network=1.0, preview=2.0, offset=-1.0),
        candidates=100,
        prompts=10,
        median=0.5,
        margin=0.05,
        figures={"within_pairwise": 0.7},
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_probe(tmp_path, Network(SHAPE), a_card())
    return tmp_path


def rewrite(folder: Path, data: bytes) -> None:
    """Other weights, with a card that vouches for them."""
    (folder / "probe.safetensors").write_bytes(data)
    card = json.loads((folder / "card.json").read_text())
    card["weights_sha256"] = hashlib.sha256(data).hexdigest()
    (folder / "card.json").write_text(json.dumps(card))


def test_a_probe_predicts_the_same_after_a_trip_to_the_disk(tmp_path: Path) -> None:
    network, trace = Network(SHAPE).eval(), planted(3).batch(range(18))
    card = save_probe(tmp_path, network, a_card())
    loaded = load_probe(tmp_path)
    assert loaded.card == card
    seen = torch.rand(18)
    assert loaded.predict(trace, seen) == Probe(network, card).predict(trace, seen)


def test_predictions_name_each_word_and_hold_the_score_in_their_interval(folder: Path) -> None:
    examples = planted(24)
    predictions = load_probe(folder).predict(
        examples.batch(range(len(examples))), torch.rand(len(examples))
    )
    assert len(predictions) == len(examples) > 64
    for row, prediction in zip(examples.rows, predictions, strict=True):
        assert 0 <= prediction.low <= prediction.score <= prediction.high <= 1
        assert tuple(word for word, _ in prediction.words) == row.words
        assert all(0 <= focus <= 1 for _, focus in prediction.words)


def test_a_better_preview_raises_score_and_interval_but_not_the_network_s_own(folder: Path) -> None:
    probe, trace = load_probe(folder), planted(3).batch([0, 1])
    worse, better = (probe.predict(trace, torch.full((2,), seen)) for seen in (0.1, 0.9))
    for low, high in zip(worse, better, strict=True):
        assert low.score < high.score
        assert low.low < high.high
        assert low.unaided == high.unaided


@pytest.mark.parametrize("name", ["card.json", "probe.safetensors"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ProbeError, match=rf"{name}: No such file"):
        load_probe(folder)


def test_truncated_weights_are_refused(folder: Path) -> None:
    path = folder / "probe.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ProbeError, match=r"truncated or not the file .*expected sha256"):
        load_probe(folder)


@pytest.mark.parametrize("data", [b"", b"garbage", pickle.dumps({"stem.weight": [1.0]})])
def test_what_is_no_safetensors_file_is_refused(folder: Path, data: bytes) -> None:
    rewrite(folder, data)
    with pytest.raises(ProbeError, match="no safetensors file"):
        load_probe(folder)


def test_weights_of_another_shape_are_refused_with_both(folder: Path) -> None:
    tensors = load_file(folder / "probe.safetensors")
    tensors["map_mean"] = torch.zeros(3)
    rewrite(folder, save(tensors))
    with pytest.raises(ProbeError, match=r"map_mean should be .*\(2,\), and is .*\(3,\)"):
        load_probe(folder)


def test_missing_and_surplus_weights_are_named(folder: Path) -> None:
    tensors = load_file(folder / "probe.safetensors")
    tensors["extra"] = tensors.pop("stem.bias")
    rewrite(folder, save(tensors))
    with pytest.raises(ProbeError, match=r"other weights .*: extra, stem.bias"):
        load_probe(folder)


def test_weights_that_are_not_finite_are_refused(folder: Path) -> None:
    tensors = load_file(folder / "probe.safetensors")
    tensors["stem.bias"][0] = torch.nan
    rewrite(folder, save(tensors))
    with pytest.raises(ProbeError, match=r"stem.bias holds numbers that are not finite"):
        load_probe(folder)


def test_a_huge_file_is_refused_unread(folder: Path) -> None:
    with (folder / "card.json").open("ab") as file:
        file.truncate(2**21)
    with pytest.raises(ProbeError, match="2097152 bytes, at most 1048576"):
        load_probe(folder)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"surplus": 1}, "surplus: Extra inputs"),
        ({"format": "promptprobe probe 9"}, "format: Input should be"),
        ({"shape": {"layers": 10**9, "channels": 4, "dim": 8}}, "shape.layers: .*less than"),
        ({"margin": "wide"}, "margin: .*valid number"),
    ],
)
def test_a_card_that_is_no_card_says_where(
    folder: Path, change: dict[str, Any], problem: str
) -> None:
    card = json.loads((folder / "card.json").read_text()) | change
    (folder / "card.json").write_text(json.dumps(card))
    with pytest.raises(ProbeError, match=problem):
        load_probe(folder)


def test_a_card_of_random_bytes_is_refused(folder: Path) -> None:
    (folder / "card.json").write_bytes(bytes(range(256)))
    with pytest.raises(ProbeError, match="no card of a probe"):
        load_probe(folder)


def test_the_facts_it_was_made_for_pass() -> None:
    check(a_card(), FACTS)


@pytest.mark.parametrize("name", list(Facts.model_fields))
def test_any_other_fact_is_refused_with_the_two_values(name: str) -> None:
    with pytest.raises(ProbeError) as caught:
        check(a_card(), FACTS.model_copy(update={name: OTHER[name]}))
    assert name.replace("_", " ") in str(caught.value)
    assert str(getattr(FACTS, name)) in str(caught.value)
    assert str(OTHER[name]) in str(caught.value)


def test_a_trace_of_another_model_is_refused(folder: Path) -> None:
    examples = planted(2)
    five = torch.zeros(len(examples), 5, 16, 16).half()
    other = replace(examples, x0=five, gap=five)
    with pytest.raises(ProbeError, match="reads 2 x0 latent channels, and the trace has 5"):
        load_probe(folder).predict(other.batch([0, 1]), torch.zeros(2))


def test_a_trace_that_is_not_finite_is_refused_by_candidate(folder: Path) -> None:
    trace = planted(2).batch([0, 1, 2])
    trace.x0[1] = torch.nan
    with pytest.raises(ProbeError, match=r"candidates \[1\]"):
        load_probe(folder).predict(trace, torch.zeros(3))


def test_facts_of_a_model_tell_its_weights_and_settings_apart(ddim_pipeline: Any) -> None:
    family = StableDiffusion(ddim_pipeline)
    settings = Settings(steps=4, guidance=3.0, height=32, width=32)
    facts = facts_of(family, settings, 2)
    assert facts == facts_of(family, settings, 2)
    assert (facts.scheduler, facts.prediction_type) == ("DDIMScheduler", "v_prediction")
    assert len(facts.timesteps) == 2
    with torch.no_grad():
        next(iter(family.layers().values())).get_parameter("to_q.weight").add_(1e-3)
    changed = facts_of(family, settings, 2)
    assert changed.weights != facts.weights
    assert changed.model_copy(update={"weights": facts.weights}) == facts


def test_a_probe_of_a_real_pipeline_s_shape_reads_its_trace(
    tmp_path: Path, ddim_pipeline: Any
) -> None:
    family = StableDiffusion(ddim_pipeline)
    settings = Settings(steps=4, guidance=3.0, height=32, width=32)
    trace, _ = record_trace(family, ["a red cat", "a dog"], [1, 2], settings, 2)
    shape = Shape(layers=trace.maps.shape[2], channels=4, dim=32, width=8)
    save_probe(tmp_path, Network(shape), a_card(shape))
    red_cat, dog = load_probe(tmp_path).predict(trace, torch.zeros(2))
    assert [word for word, _ in red_cat.words] == ["red", "cat"]
    assert [word for word, _ in dog.words] == ["dog"]
