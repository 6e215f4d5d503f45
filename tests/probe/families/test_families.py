"""Every family against diffusers' own pipeline: equal latents, pixels, cost and manners."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import cpu_offload
from diffusers import HeunDiscreteScheduler, PNDMScheduler

from promptprobe.probe.families import FAMILIES
from promptprobe.probe.families.family import Family, Settings
from promptprobe.probe.families.schedulers import FLOW
from promptprobe.probe.families.unet.stable_diffusion import StableDiffusion
from promptprobe.probe.model.card import ProbeError, model_spec_of
from promptprobe.probe.trace import record_trace
from tests import tiny
from tests.probe.pipelines import (
    FLOW_SCHEDULERS,
    PROMPTS,
    SCHEDULERS,
    SEEDS,
    SETTINGS,
    family_of,
    fit,
    full,
    official,
    with_scheduler,
)


def test_every_family_has_a_tiny_pipeline() -> None:
    made = {type(build()).__name__ for build in tiny.PIPELINES.values()}
    assert made == set(FAMILIES)


@pytest.mark.parametrize("guidance", [3.0, 1.0])
@pytest.mark.parametrize("width", [32, 64])
def test_a_full_render_equals_the_official_pipeline_bit_for_bit(
    tiny_pipeline: Any, guidance: float, width: int
) -> None:
    settings = fit(tiny_pipeline, Settings(6, guidance, 32, width, "a dog"))
    family = family_of(tiny_pipeline)
    latents = full(family, settings).latents
    assert torch.equal(latents, official(tiny_pipeline, settings, "latent"))
    expected = official(tiny_pipeline, settings, "pil")
    assert np.array_equal(family.decode(latents), np.stack([np.array(image) for image in expected]))


@pytest.mark.parametrize("name", ["ddim", "pndm", "xl", "pixart"])
@pytest.mark.parametrize("kind", SCHEDULERS)
def test_every_accepted_scheduler_equals_the_official_pipeline(
    fresh_pipeline: Any, name: str, kind: Any
) -> None:
    pipeline = with_scheduler(fresh_pipeline(name), kind)
    latents = full(family_of(pipeline), SETTINGS).latents
    assert latents.isfinite().all()
    assert torch.equal(latents, official(pipeline, SETTINGS, "latent"))


@pytest.mark.parametrize("name", ["sd3", "flux"])
@pytest.mark.parametrize("kind", FLOW_SCHEDULERS)
def test_solvers_that_make_flow_sigmas_equal_the_official_pipeline(
    fresh_pipeline: Any, name: str, kind: Any
) -> None:
    pipeline = fresh_pipeline(name)
    with_scheduler(pipeline, kind, prediction_type=FLOW, use_flow_sigmas=True, flow_shift=2.0)
    settings = fit(pipeline, SETTINGS)
    latents = full(family_of(pipeline), settings).latents
    assert latents.isfinite().all()
    assert torch.equal(latents, official(pipeline, settings, "latent"))


def test_a_verb_leaves_the_state_it_was_given_usable(tiny_pipeline: Any) -> None:
    family, settings = family_of(tiny_pipeline), fit(tiny_pipeline, SETTINGS)
    conditioning = family.encode(PROMPTS, settings)
    noise = family.draw_noise(SEEDS, settings)
    once = family.denoise(noise, conditioning, settings, 6)
    again = family.denoise(noise, conditioning, settings, 6)
    assert torch.equal(once.latents, again.latents)


def test_the_users_pipeline_is_left_as_it_was(tiny_pipeline: Any) -> None:
    before = dict(tiny_pipeline.scheduler.__dict__)
    family, settings = family_of(tiny_pipeline), fit(tiny_pipeline, SETTINGS)
    record_trace(family, PROMPTS, SEEDS, settings, 2)
    full(family, settings)
    after = tiny_pipeline.scheduler.__dict__
    assert before.keys() == after.keys()
    assert all(before[name] is after[name] for name in before)
    assert not any(module._forward_hooks for module in denoiser(family).modules())
    assert not any(module._forward_pre_hooks for module in denoiser(family).modules())


@pytest.mark.parametrize("guidance", [3.0, 1.0, 0.0])
def test_nfe_counts_the_evaluations_that_are_really_made(
    tiny_pipeline: Any, guidance: float
) -> None:
    family = family_of(tiny_pipeline)
    settings = Settings(5, guidance, 32, 32, "")
    made = 0

    def count(module: Any, args: Any, kwargs: Any) -> None:
        nonlocal made
        made += len(args[0] if args else kwargs["hidden_states"])

    denoiser(family).register_forward_pre_hook(count, with_kwargs=True)
    conditioning = family.encode(["a cat"], settings)
    prefix = family.denoise(family.draw_noise([0], settings), conditioning, settings, 2)
    assert made == family.nfe(settings, 0, 2)
    family.denoise(prefix, conditioning, settings, 5)
    assert made == family.nfe(settings, 0, 2) + family.nfe(settings, 2, 5)
    extra = tiny_pipeline.scheduler.__class__ is PNDMScheduler
    name = type(tiny_pipeline).__name__
    least = {"FluxPipeline": np.inf, "ZImagePipeline": 0.0}.get(name, 1.0)
    assert made == (5 + extra) * (2 if guidance > least else 1)


def test_the_gap_is_the_guidance_that_the_prediction_got(tiny_pipeline: Any) -> None:
    family = family_of(tiny_pipeline)
    for guidance in (0.0, 3.0):
        settings = Settings(4, guidance, 32, 32, "")
        trace, _ = record_trace(family, PROMPTS, SEEDS, settings, 2)
        guided = family.nfe(settings, 0, 1) > family.nfe(replace(settings, guidance=0.0), 0, 1)
        assert bool(trace.gap.abs().max() > 1e-6) is guided


def denoiser(family: Family) -> Any:
    return family.denoiser  # type: ignore[attr-defined]


def test_a_scheduler_that_cannot_be_carried_is_refused_by_name(pndm_pipeline: Any) -> None:
    with_scheduler(pndm_pipeline, HeunDiscreteScheduler)
    with pytest.raises(ValueError, match="HeunDiscreteScheduler cannot be stopped"):
        family_of(pndm_pipeline)


def test_a_scheduler_of_the_other_kind_is_refused(fresh_pipeline: Any) -> None:
    flow, noise = fresh_pipeline("sd3"), fresh_pipeline("pndm")
    flow.scheduler, noise.scheduler = noise.scheduler, flow.scheduler
    for pipeline, wanted in ((flow, "flow_prediction"), (noise, "epsilon")):
        with pytest.raises(ValueError, match=f"needs one of {wanted}"):
            family_of(pipeline)


def test_something_that_is_no_such_pipeline_is_refused(ddim_pipeline: Any) -> None:
    with pytest.raises(TypeError, match="expected a StableDiffusionPipeline"):
        StableDiffusion(ddim_pipeline.unet)


def test_an_unknown_pipeline_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"is a dict, .*supported: Stable.*Flux.*docs/families"):
        family_of({})


def test_an_unfit_size_or_step_is_refused(tiny_pipeline: Any) -> None:
    family, settings = family_of(tiny_pipeline), fit(tiny_pipeline, SETTINGS)
    with pytest.raises(ValueError, match="height must be a multiple of 8 pixels, got 30"):
        family.draw_noise([0], Settings(4, 1.0, 30, 32, ""))
    state = family.draw_noise(SEEDS, settings)
    with pytest.raises(ValueError, match="expected a step from 0"):
        family.denoise(state, family.encode(PROMPTS, settings), settings, 7)


def test_a_bfloat16_pipeline_decodes_the_float32_x0_of_a_trace(tiny_pipeline: Any) -> None:
    family = family_of(tiny_pipeline.to(torch.bfloat16))
    trace, state = record_trace(family, PROMPTS, SEEDS, fit(tiny_pipeline, SETTINGS), 2)
    # These keep their latents in full, whatever the transformer's dtype.
    full_latents = type(tiny_pipeline).__name__ in ("ZImagePipeline", "SanaPipeline")
    assert state.latents.dtype == (torch.float32 if full_latents else torch.bfloat16)
    assert trace.x0.dtype == torch.float32
    assert family.decode(trace.x0).shape == (2, 32, 32, 3)


@pytest.mark.parametrize("name", ["ddim", "flux", "qwen"])
@pytest.mark.parametrize("way", ["by parts", "by models", "by groups"])
def test_an_offloaded_pipeline_is_probed_where_it_runs(
    fresh_pipeline: Any, device: str, name: str, way: str
) -> None:
    pipeline = fresh_pipeline(name)
    settings = fit(pipeline, SETTINGS)
    expected, _ = record_trace(family_of(pipeline), PROMPTS, SEEDS, settings, 2)
    pipeline = fresh_pipeline(name).to("cpu")
    if way == "by parts":
        for part in pipeline.components.values():
            if isinstance(part, torch.nn.Module):
                cpu_offload(part, torch.device(device))
    elif way == "by models":
        pipeline.enable_model_cpu_offload(device=device)
    else:
        pipeline.enable_group_offload(torch.device(device), offload_type="leaf_level")
    family = family_of(pipeline)
    found, state = record_trace(family, PROMPTS, SEEDS, settings, 2)
    assert torch.equal(found.maps, expected.maps)
    assert torch.equal(found.x0, expected.x0)
    assert family.decode_checked(state.latents)[0].shape == (2, 32, 32, 3)
    if way == "by parts":
        assert all(weight.is_meta for weight in denoiser(family).parameters())
        with pytest.raises(ProbeError, match="offloaded layer by layer"):
            model_spec_of(family, settings)


def test_an_adapter_in_the_attention_is_seen(tiny_pipeline: Any) -> None:
    """As LoRA does it: a projection is wrapped, and a little is added to what it gives."""

    class Adapted(torch.nn.Module):
        def __init__(self, base: Any) -> None:
            super().__init__()
            self.base = base
            self.extra = torch.nn.Linear(base.in_features, base.out_features, bias=False)

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return self.base(rows) + self.extra(rows)

    settings = fit(tiny_pipeline, SETTINGS)
    plain, _ = record_trace(family_of(tiny_pipeline), PROMPTS, SEEDS, settings, 1)
    torch.manual_seed(7)
    for layer in family_of(tiny_pipeline).layers().values():
        name = "to_q" if hasattr(layer, "to_q") else "to_qkv_mlp_proj"
        setattr(layer, name, Adapted(getattr(layer, name)).to(tiny_pipeline.device))
    adapted, _ = record_trace(family_of(tiny_pipeline), PROMPTS, SEEDS, settings, 1)
    assert (plain.maps - adapted.maps).abs().max() > 1e-4
