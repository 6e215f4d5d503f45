"""The probe on disk: nothing broken is loaded, and nothing is used outside what it was made for."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save

from promptprobe.probe.families.family import CallArguments, Settings
from promptprobe.probe.families.unet.stable_diffusion import StableDiffusion
from promptprobe.probe.model.card import ModelSpec, ProbeError, check, model_spec_of, ranges_of
from promptprobe.probe.model.checkpoint import WEIGHTS, Probe, load_probe, save_probe
from promptprobe.probe.model.network import Network, NetworkConfig
from promptprobe.probe.trace import record_trace
from tests.probe.planted import FACTS, TARGETS, WINDOWS, a_card, at, planted

SHAPE = NetworkConfig(layers=2, channels=2, dim=8, windows=2, targets=2, width=8)
OTHER: dict[str, Any] = {
    "scheduler": "PNDMScheduler",
    "prediction_type": "epsilon",
    "dtype": "float16",
    "guidance": 7.5,
    "steps": 50,
    "timesteps": (981.0, 941.0),
    "height": 128,
    "width": 96,
    "negative_prompt": "blurry",
    "arguments": {"clip_skip": 2.0},
    "keys": "text and image",
    "layers": ("mid.attn2",),
    "weights": "b" * 64,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_probe(tmp_path, Network(SHAPE), a_card(SHAPE))
    return tmp_path


def rewrite(folder: Path, data: bytes) -> None:
    """Other weights, with a card that vouches for them."""
    (folder / "probe.safetensors").write_bytes(data)
    card = json.loads((folder / "card.json").read_text())
    card["weights_sha256"] = hashlib.sha256(data).hexdigest()
    (folder / "card.json").write_text(json.dumps(card))


def test_a_probe_predicts_the_same_after_a_trip_to_the_disk(tmp_path: Path) -> None:
    network, (trace, look) = Network(SHAPE).eval(), at(planted(3), range(18))
    card = save_probe(tmp_path, network, a_card(SHAPE))
    loaded = load_probe(tmp_path)
    assert loaded.card == card
    assert loaded.predict(trace, 5, look) == Probe(network, card).predict(trace, 5, look)


def test_predictions_name_each_word_and_hold_the_score_in_their_interval(folder: Path) -> None:
    examples = planted(24)
    trace, look = at(examples, range(len(examples)))
    predictions = load_probe(folder).predict(trace, 5, look)
    assert len(predictions) == len(examples) > 64
    for row, prediction in zip(examples.rows, predictions, strict=True):
        assert 0 <= prediction.low <= prediction.score <= prediction.high <= 1
        assert len(prediction.words) == len(row.words)
        assert all(0 <= chance <= 1 for chance in prediction.words)


def test_scores_come_back_on_their_target_s_own_scale(folder: Path) -> None:
    probe, (trace, _) = load_probe(folder), at(planted(3), [0, 1])
    wide = probe.card.targets[0].model_copy(update={"low": -2.0, "high": 2.0})
    card = probe.card.model_copy(update={"targets": (wide, probe.card.targets[1])})
    [share, _] = probe.predict(trace, 5)
    [score, _] = replace(probe, card=card).predict(trace, 5)
    assert score.score == pytest.approx(4 * share.score - 2, abs=1e-6)
    assert score.high - score.low == pytest.approx(4 * (share.high - share.low), abs=1e-6)


def test_what_the_judge_saw_lies_on_the_first_target_s_scale(folder: Path) -> None:
    probe, (trace, look) = load_probe(folder), at(planted(3), [0, 1])
    wide = probe.card.targets[0].model_copy(update={"low": 0.0, "high": 100.0})
    card = probe.card.model_copy(update={"targets": (wide, probe.card.targets[1])})
    half = look._replace(score=torch.full((2,), 0.5))
    fifty = look._replace(score=torch.full((2,), 50.0))
    assert [p.score for p in replace(probe, card=card).predict(trace, 5, fifty)] == pytest.approx(
        [100 * p.score for p in probe.predict(trace, 5, half)]
    )


def test_other_steps_and_other_scores_are_refused_with_those_it_knows(folder: Path) -> None:
    probe, (trace, _) = load_probe(folder), at(planted(3), [0, 1])
    with pytest.raises(ProbeError, match="trained to see 2, 5 steps, but 3 are probed"):
        probe.predict(trace, 3)
    assert [probe.target(name) for name in TARGETS] == [0, 1]
    with pytest.raises(ProbeError, match=r"'planted score', 'other score'.*gives 'CLIP score'"):
        probe.target("CLIP score")


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
    with pytest.raises(ProbeError, match="not a safetensors file"):
        load_probe(folder)


def test_weights_of_another_shape_are_refused_with_both(folder: Path) -> None:
    tensors = load_file(folder / "probe.safetensors")
    tensors["map_mean"] = torch.zeros(2, 3)
    rewrite(folder, save(tensors))
    with pytest.raises(ProbeError, match=r"map_mean should be .*\(2, 2\), but is .*\(2, 3\)"):
        load_probe(folder)


def test_missing_and_surplus_weights_are_named(folder: Path) -> None:
    tensors = load_file(folder / "probe.safetensors")
    tensors["extra"] = tensors.pop("stem.bias")
    rewrite(folder, save(tensors))
    with pytest.raises(ProbeError, match=r"does not have .*: extra, stem.bias"):
        load_probe(folder)


def test_weights_that_are_not_finite_are_refused(folder: Path) -> None:
    tensors = load_file(folder / "probe.safetensors")
    tensors["stem.bias"][0] = torch.nan
    rewrite(folder, save(tensors))
    with pytest.raises(ProbeError, match=r"stem.bias holds numbers that are not finite"):
        load_probe(folder)


def test_weights_beyond_all_training_are_refused(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    name = next(name for name, tensor in tensors.items() if tensor.is_floating_point())
    tensors[name] = tensors[name] * 0 + 1e30
    rewrite(folder, save(tensors))
    with pytest.raises(ProbeError, match=r"holds 1e\+30, but no weight may exceed 1e\+04"):
        load_probe(folder)


def test_weights_that_are_no_regular_file_are_refused_and_not_waited_for(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    os.mkfifo(folder / WEIGHTS)
    with pytest.raises(ProbeError, match="not a regular file"):
        load_probe(folder)


def test_a_huge_file_is_refused_unread(folder: Path) -> None:
    with (folder / "card.json").open("ab") as file:
        file.truncate(2**21)
    with pytest.raises(ProbeError, match="2097152 bytes, expected at most 1048576"):
        load_probe(folder)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"surplus": 1}, "surplus: Extra inputs"),
        ({"format": "promptprobe probe 9"}, "format: Input should be"),
        ({"shape": {"layers": 10**9, "channels": 4, "dim": 8}}, "shape.layers: .*less than"),
        ({"coverage": "wide"}, "coverage: .*valid number"),
        (
            {"ranges": ranges_of(FACTS).model_dump() | {"steps": (30, 50)}},
            "the range of steps, 30 to 50, excludes its own 25",
        ),
        (
            {"windows": [{"k": 5, "calibration": [{}, {}], "figures": {}}]},
            "1 numbers of steps, but the network has 2",
        ),
        (
            {"windows": [{"k": k, "calibration": [{}], "figures": {}} for k in WINDOWS]},
            f"1 calibrations after {WINDOWS[0]} steps, but the network has 2",
        ),
        (
            {"made_with": FACTS.model_dump() | {"timesteps": (999.0,)}},
            "a window of 5 steps and 1 timesteps do not fit 25 steps",
        ),
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
    with pytest.raises(ProbeError, match="not a probe's card"):
        load_probe(folder)


def test_the_facts_it_was_made_for_pass() -> None:
    check(a_card(SHAPE), FACTS)


@pytest.mark.parametrize("name", list(ModelSpec.model_fields))
def test_any_other_fact_is_refused_with_the_two_values(name: str) -> None:
    with pytest.raises(ProbeError) as caught:
        check(a_card(SHAPE), FACTS.model_copy(update={name: OTHER[name]}))
    assert name.replace("_", " ") in str(caught.value)
    assert str(getattr(FACTS, name))[:100] in str(caught.value)
    assert str(OTHER[name]) in str(caught.value)


def test_a_trace_of_another_model_is_refused(folder: Path) -> None:
    trace, _ = at(planted(2), [0, 1])
    five = torch.zeros(2, 5, 16, 16)
    with pytest.raises(ProbeError, match="reads 2 x0 latent channels, but the trace has 5"):
        load_probe(folder).predict(replace(trace, x0=five, gap=five), 5)


def test_a_trace_that_is_not_finite_is_refused(folder: Path) -> None:
    trace, _ = at(planted(2), [0, 1, 2])
    trace.x0[1] = torch.nan
    with pytest.raises(ProbeError, match="numbers that are not finite"):
        load_probe(folder).predict(trace, 5)


def test_facts_of_a_model_tell_its_weights_and_settings_apart(ddim_pipeline: Any) -> None:
    family = StableDiffusion(ddim_pipeline)
    settings = Settings(steps=4, guidance=3.0, height=32, width=32)
    facts = model_spec_of(family, settings)
    assert facts == model_spec_of(family, settings)
    assert (facts.scheduler, facts.prediction_type) == ("DDIMScheduler", "v_prediction")
    assert len(facts.timesteps) == 4
    with torch.no_grad():
        next(iter(family.layers().values())).get_parameter("to_q.weight").add_(1e-3)
    asked = replace(settings, extra=CallArguments(eta=0.5))
    assert model_spec_of(family, asked).arguments == {"eta": 0.5}
    changed = model_spec_of(family, settings)
    assert changed.weights != facts.weights
    assert changed.model_copy(update={"weights": facts.weights}) == facts


def test_a_probe_of_a_real_pipeline_s_shape_reads_its_trace(
    tmp_path: Path, ddim_pipeline: Any
) -> None:
    family = StableDiffusion(ddim_pipeline)
    settings = Settings(steps=4, guidance=3.0, height=32, width=32)
    trace, _ = record_trace(family, ["a red cat", "a dog"], [1, 2], settings, 2)
    shape = NetworkConfig(layers=trace.maps.shape[2], channels=4, dim=32, width=8)
    save_probe(tmp_path, Network(shape), a_card(shape))
    red_cat, dog = load_probe(tmp_path).predict(trace, 2)
    assert (len(red_cat.words), len(dog.words)) == (2, 1)
