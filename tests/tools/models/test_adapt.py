"""LoRA, another scheduler and offloading: what is asked for is what the official pipeline does."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from pydantic import ValidationError
from torch import Tensor

from promptprobe import Budget, optimize_prompt
from promptprobe.agent import run_folder
from promptprobe.probe.families import CARRIED
from promptprobe.probe.model.card import model_spec_of
from promptprobe.probe.trace import record_trace
from promptprobe.tools.models.model import open_model
from promptprobe.tools.records import Generation
from promptprobe.tools.toolbox import settings_of
from tests import tiny
from tests.images import brightness
from tests.probe.pipelines import PROMPTS, SEEDS, full, official

SMALL = {"steps": 3, "guidance": 3.0, "height": 32, "width": 32}


@pytest.fixture(scope="module")
def lora(ddim_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.lora(ddim_folder, tmp_path_factory.mktemp("lora"))


def drawn(model: Path, **asked: Any) -> Tensor:
    opened = open_model(model, Generation.model_validate(SMALL | asked))
    return full(opened.family, settings_of(opened.generation)).latents


def loaded(model: Path) -> Any:
    pipeline = DiffusionPipeline.from_pretrained(model, use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.unet.to(memory_format=torch.channels_last)
    return pipeline


def test_lora_with_weights_draw_what_the_official_call_draws(
    ddim_folder: Path, lora: Path, tmp_path: Path
) -> None:
    other = tiny.lora(ddim_folder, tmp_path, "text_encoder")
    found = drawn(ddim_folder, lora=(f"{lora}:0.5", str(other)))
    pipeline = loaded(ddim_folder)
    for name, path in (("a", lora), ("b", other)):
        pipeline.load_lora_weights(path, adapter_name=name)
    pipeline.set_adapters(["a", "b"], [0.5, 1.0])
    settings = settings_of(Generation.model_validate(SMALL | {"negative_prompt": ""}))
    assert torch.equal(found, official(pipeline, settings, "latent"))
    assert not torch.equal(found, drawn(ddim_folder, lora=(str(lora), str(other))))
    assert not torch.equal(found, drawn(ddim_folder))


def test_a_probe_tells_lora_and_their_weights_apart_wherever_they_are(
    ddim_folder: Path, lora: Path, tmp_path: Path
) -> None:
    text = tiny.lora(ddim_folder, tmp_path, "text_encoder")
    hashes = []
    for given in ((), (str(lora),), (f"{lora}:0.5",), (str(text),), (f"{text}:0.5",)):
        opened = open_model(ddim_folder, Generation.model_validate(SMALL | {"lora": given}))
        hashes.append(model_spec_of(opened.family, settings_of(opened.generation)).weights)
    assert len(set(hashes)) == 5


def test_lora_work_in_half_precision(ddim_folder: Path, lora: Path) -> None:
    found = drawn(ddim_folder, lora=(str(lora),), dtype="bfloat16")
    assert found.dtype == torch.bfloat16 and bool(found.isfinite().all())


def test_a_run_with_lora_and_scheduler_goes_on_from_any_folder(
    ddim_folder: Path,
    lora: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(lora.parent)
    asked = {"lora": (f"{lora.name}:0.5",), "scheduler": "EulerDiscreteScheduler"}
    result = optimize_prompt(
        "a red cat", model=ddim_folder, scorer=brightness, rewrite="off", out=tmp_path,
        generation=Generation.model_validate(SMALL | asked), budget=Budget(renders=1),
    )  # fmt: skip
    kept = run_folder.read(result.run_dir).generation
    assert (kept.lora, kept.scheduler) == ((f"{lora}:0.5",), "EulerDiscreteScheduler")
    monkeypatch.chdir(tmp_path)
    assert optimize_prompt(resume=result.run_dir, scorer=brightness) == result
    assert "LoRA" not in capfd.readouterr().err


@pytest.mark.parametrize("name", [name for name in CARRIED if "Flow" not in name])
def test_every_scheduler_of_a_noise_schedule_draws_what_the_official_call_draws(
    pndm_folder: Path, name: str
) -> None:
    import diffusers

    pipeline = loaded(pndm_folder)
    pipeline.scheduler = getattr(diffusers, name).from_config(pipeline.scheduler.config)
    settings = settings_of(Generation.model_validate(SMALL | {"negative_prompt": ""}))
    assert torch.equal(drawn(pndm_folder, scheduler=name), official(pipeline, settings, "latent"))


@pytest.mark.parametrize("name", ["DPMSolverMultistepScheduler", "UniPCMultistepScheduler"])
def test_a_flow_model_keeps_its_shift_with_another_scheduler(
    saved_pipeline: Any, name: str
) -> None:
    opened = open_model(
        saved_pipeline("sd3"), Generation.model_validate(SMALL | {"scheduler": name})
    )
    own = DiffusionPipeline.from_pretrained(saved_pipeline("sd3")).scheduler.config
    config = opened.family.pipeline.scheduler.config  # type: ignore[attr-defined]
    assert (config.use_flow_sigmas, config.prediction_type) == (True, "flow_prediction")
    assert config.flow_shift == own.shift
    assert bool(full(opened.family, settings_of(opened.generation)).latents.isfinite().all())


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"scheduler": "DPMSolverMultistep"}, r"did you mean 'DPMSolverMultistepScheduler'\?"),
        ({"scheduler": "HeunDiscreteScheduler"}, "can be stopped and continued exactly"),
        ({"lora": ["style:11"]}, "a weight of at most 10"),
        ({"lora": ["style:nan"]}, "a weight of at most 10"),
        ({"lora": [":0.5"]}, "expected a file or hub id"),
        ({"extra": {"cross_attention_kwargs": {"scale": 1}}}, "--lora FILE_OR_ID:0.5"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_once(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Generation.model_validate(asked)


def test_a_lora_that_is_none_or_for_another_model_is_refused_by_name(
    ddim_folder: Path, pndm_folder: Path, xl_folder: Path, saved_pipeline: Any, tmp_path: Path
) -> None:
    garbage, empty = tmp_path / "garbage.safetensors", tmp_path / "x.safetensors"
    garbage.write_bytes(b"\x00 no tensors")
    empty.write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    pickled = tmp_path / "old.bin"
    pickled.write_bytes(b"")
    of_xl = tiny.lora(xl_folder, tmp_path)
    for path, said in (
        (tmp_path / "none.safetensors", "expected the file, the folder or the hub id of a LoRA"),
        (pickled, "no pickle is read"),
        (garbage, "garbage.safetensors did not load into a StableDiffusionPipeline"),
        (empty, "x.safetensors"),
        (of_xl, "did not load into a StableDiffusionPipeline"),
    ):
        with pytest.raises(ValueError, match=said):
            open_model(ddim_folder, Generation(lora=(str(path),)))
    with pytest.raises(ValueError, match="diffusers knows no LoRA for a PixArtSigmaPipeline"):
        open_model(saved_pipeline("pixart"), Generation(lora=(str(of_xl),)))


def test_without_peft_the_extra_that_brings_it_is_named(
    ddim_folder: Path, lora: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'promptprobe\[lora\]'"):
        open_model(ddim_folder, Generation(lora=(f"{lora}:0.9",)))


def test_capture_leaves_a_render_with_lora_unchanged(ddim_folder: Path, lora: Path) -> None:
    opened = open_model(ddim_folder, Generation.model_validate(SMALL | {"lora": (str(lora),)}))
    settings = settings_of(opened.generation)
    _, state = record_trace(opened.family, PROMPTS, SEEDS, settings, 3)
    assert torch.equal(state.latents, full(opened.family, settings).latents)


def test_without_a_gpu_there_is_nothing_to_offload_from(ddim_folder: Path) -> None:
    with pytest.raises(ValueError, match="the device here is cpu: leave it out"):
        open_model(ddim_folder, Generation(offload=True, device="cpu"))


@pytest.mark.parametrize(
    ("asked", "instead"),
    [
        ({"scheduler": "DDIMScheduler"}, "set pipeline.scheduler before"),
        ({"lora": ["style"]}, "call pipeline.load_lora_weights before"),
        ({"offload": True}, "call pipeline.enable_model_cpu_offload before"),
    ],
)
def test_a_pipeline_that_was_passed_is_not_changed(
    ddim_pipeline: Any, asked: dict[str, Any], instead: str
) -> None:
    with pytest.raises(ValueError, match=instead):
        open_model(ddim_pipeline, Generation.model_validate(asked))
