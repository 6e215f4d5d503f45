from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from promptprobe.tools.models.model import open_model, open_toolbox
from promptprobe.tools.records import IN_MEMORY, Candidate, Generation
from promptprobe.tools.sprites.plugin import MODELS
from tests import tiny


def any_score(brief: str, image: Any) -> float:
    return 0.5


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's own offline switch."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def copied(ddim_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(ddim_folder, tmp_path / "copy")


def test_a_folder_opens_with_the_models_own_defaults(pndm_folder: Path):
    model = open_model(pndm_folder)
    used = model.generation
    assert (used.steps, used.guidance, used.height, used.width) == (25, 7.5, 32, 32)
    assert (used.negative_prompt, used.dtype, used.device) == ("", "float32", "cpu")
    assert model.name == str(pndm_folder.resolve())


def test_a_size_far_beyond_the_models_own_is_refused_before_anything_is_drawn():
    with pytest.raises(ValueError, match=r"at most 8 times as much .* got 67,108,864"):
        open_model("sprites", Generation(height=8192, width=8192))


def test_settings_that_are_given_win(ddim_folder: Path):
    asked = Generation(steps=3, guidance=0, height=48, width=16, negative_prompt="x")
    used = open_toolbox(str(ddim_folder), asked, any_score).settings_used
    assert used == asked.model_copy(update={"dtype": "float32", "device": "cpu"})


def test_weights_saved_in_half_precision_run_in_full_precision_on_a_cpu(
    ddim_pipeline: Any, tmp_path: Path
):
    import torch

    for part in (ddim_pipeline.unet, ddim_pipeline.vae, ddim_pipeline.text_encoder):
        torch.nn.Module.to(part, torch.float16)
    ddim_pipeline.save_pretrained(tmp_path)
    toolbox = open_toolbox(tmp_path, Generation(steps=2), any_score)
    (rendered,) = toolbox.render([Candidate(prompt="a cat", seed=1)], [None], tmp_path)
    assert rendered.image is not None
    assert toolbox.settings_used.dtype == "float32"


def test_a_dtype_that_cannot_be_asked_for_is_left_as_it_is(ddim_pipeline: Any):
    import torch

    used = open_model(ddim_pipeline.to(torch.float64)).generation
    assert (used.dtype, ddim_pipeline.unet.dtype) == (None, torch.float64)


@pytest.mark.parametrize("name", tiny.PIPELINES)
def test_every_family_opens_from_a_folder_with_its_official_defaults(
    saved_pipeline: Any, name: str
):
    import inspect

    model = open_model(saved_pipeline(name), Generation(height=32, width=32))
    call = inspect.signature(type(model.family.pipeline).__call__).parameters  # type: ignore[attr-defined]
    expected = call["true_cfg_scale" if name == "qwen" else "guidance_scale"].default
    assert model.generation.guidance == expected
    assert model.pipeline == type(model.family.pipeline).__name__  # type: ignore[attr-defined]


def test_a_loaded_pipeline_is_taken_as_it_is(ddim_pipeline: Any):
    toolbox = open_toolbox(ddim_pipeline, scorer=any_score)
    assert toolbox.model_name == IN_MEMORY
    with pytest.raises(ValueError, match="has dtype float32, but float16 was requested"):
        open_model(ddim_pipeline, Generation(dtype="float16"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"height": 33}, "height must be a multiple of 8"),
        ({"steps": 1000, "device": "nonsense"}, "device 'nonsense' cannot be used here"),
    ],
)
def test_settings_that_cannot_work_fail_at_once(
    ddim_folder: Path, settings: dict[str, Any], message: str
):
    with pytest.raises(ValueError, match=message):
        open_toolbox(ddim_folder, Generation(**settings), any_score)


def test_an_object_that_is_no_known_pipeline_is_refused():
    with pytest.raises(
        ValueError, match="is a dict, which promptprobe does not support; supported: Sta"
    ):
        open_model({"a": 1})


@pytest.mark.parametrize("name", ["AuraFlowPipeline", ["my_code", "Evil"], None])
def test_an_unknown_family_is_refused_before_anything_loads(copied: Path, name: Any):
    index = copied / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"_class_name": name}))
    (copied / "unet").rename(copied / "gone")
    with pytest.raises(ValueError, match="does not support; supported: StableDiffusionPipeline"):
        open_model(copied)


def test_a_folder_that_is_no_pipeline_says_what_was_expected(tmp_path: Path):
    with pytest.raises(ValueError, match=r"has no model_index\.json.*hub id"):
        open_model(tmp_path)
    (tmp_path / "model_index.json").write_bytes(b"\x00\xff garbage")
    with pytest.raises(ValueError, match="cannot be read as JSON"):
        open_model(tmp_path)


def test_a_truncated_weights_file_is_a_clear_error(copied: Path):
    weights = copied / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"did not load.*Expected a complete folder"):
        open_model(copied)


def test_a_folder_of_fp16_weights_alone_is_read(copied: Path):
    for weights in copied.glob("*/*.safetensors"):
        weights.rename(weights.with_suffix(".fp16.safetensors"))
    assert open_model(copied).pipeline == "StableDiffusionPipeline"


@pytest.mark.usefixtures("no_network")
def test_a_single_file_is_refused_with_how_to_load_it(copied: Path):
    weights = copied / "unet" / "diffusion_pytorch_model.safetensors"
    with pytest.raises(ValueError, match=r"is a single file.*from_single_file\(.*pass that"):
        open_model(weights)


@pytest.mark.parametrize("path", ["/no/such/folder", "./model", "~/model", "model.safetensors"])
def test_a_path_that_leads_nowhere_is_never_asked_of_the_hub(path: str):
    with pytest.raises(ValueError, match="there is no such folder; give sprites"):
        open_model(path)


def test_pickled_weights_are_not_read(copied: Path):
    weights = copied / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(ValueError, match=r"pickled \.bin weights are not read"):
        open_model(copied)


@pytest.mark.usefixtures("no_network")
def test_a_hub_id_without_a_network_says_what_was_tried():
    with pytest.raises(ValueError, match=r"no such folder here.*hub did not give.*network"):
        open_model("somebody/some-model")


@pytest.mark.parametrize("name", ["", "  ", "a/b/c/d", "../up", "x" * 5000, "no\0such"])
@pytest.mark.usefixtures("no_network")
def test_a_name_that_is_none_is_refused(name: str):
    with pytest.raises(ValueError, match="give sprites") as refused:
        open_model(name)
    assert len(str(refused.value)) < 1500


def test_missing_weights_of_the_built_in_model_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    gone = replace(MODELS["sprites"], pipeline=tmp_path / "gone")
    monkeypatch.setitem(MODELS, "sprites", gone)
    with pytest.raises(ValueError, match="weights of the built-in model are missing: expected"):
        open_model()


def test_guidance_is_what_the_official_pipeline_takes(pndm_folder: Path, xl_folder: Path):
    assert open_model(pndm_folder).generation.guidance == 7.5
    assert open_model(xl_folder).generation.guidance == 5.0


@pytest.mark.parametrize(("name", "guidance"), [("sprites", 2.0), ("sprites-flow", 1.0)])
def test_a_built_in_model_opens_with_its_own_defaults_and_draws(
    name: str, guidance: float, tmp_path: Path
):
    toolbox = open_toolbox(name)
    used = toolbox.settings_used
    assert (used.steps, used.guidance, used.height, used.width) == (25, guidance, 64, 64)
    assert toolbox.model_name == name
    brief = "a red star"
    asked = [Candidate(prompt=brief, seed=seed) for seed in range(4)]
    drawn = toolbox.render(asked, [None] * len(asked), tmp_path)
    scores = toolbox.score(brief, [one.image for one in drawn if one.image])
    assert sum(score.correct or False for score in scores) >= 3


def test_loading_prints_nothing(ddim_folder: Path, capfd: pytest.CaptureFixture[str]):
    open_model(ddim_folder)
    assert capfd.readouterr() == ("", "")
