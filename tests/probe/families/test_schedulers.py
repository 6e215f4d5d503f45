"""Predicted x0 and cost, held to what diffusers' schedulers say themselves."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)
from torch import Tensor

from promptprobe.probe.families.schedulers import (
    FLOW,
    check_scheduler,
    evaluations,
    flow_shift,
    fresh,
    predict_x0,
)
from tests.probe.pipelines import SCHEDULERS

CPU = torch.device("cpu")
STEPS = 6
PLACE = 2
NOISE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}


def make(kind: Any, **options: Any) -> Any:
    clip = {"clip_sample": False} if kind in (DDIMScheduler, DDPMScheduler) else {}
    return kind(**NOISE, **clip, **options)


def latents(seed: int) -> Tensor:
    return torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(
    "kind",
    [
        DDIMScheduler,
        DDPMScheduler,
        EulerDiscreteScheduler,
        EulerAncestralDiscreteScheduler,
        LMSDiscreteScheduler,
    ],
)
def test_x0_is_the_schedulers_own_original_sample(kind: Any, prediction: str) -> None:
    scheduler = fresh(make(kind, prediction_type=prediction), STEPS, CPU)
    sample = latents(0) * scheduler.init_noise_sigma
    for place in range(PLACE + 1):
        timestep = scheduler.timesteps[place]
        scaled = scheduler.scale_model_input(sample, timestep)
        output = latents(place + 1)
        found = predict_x0(scheduler, place, timestep, scaled, output)
        step = scheduler.step(output, timestep, sample)
        assert torch.allclose(found, step.pred_original_sample, rtol=1e-4, atol=1e-3)
        sample = step.prev_sample


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("kind", [DPMSolverMultistepScheduler, UniPCMultistepScheduler])
def test_x0_is_what_a_multistep_solver_keeps(kind: Any, prediction: str) -> None:
    scheduler = fresh(make(kind, prediction_type=prediction), STEPS, CPU)
    sample = latents(0)
    for place in range(PLACE + 1):
        timestep, output = scheduler.timesteps[place], latents(place + 1)
        found = predict_x0(scheduler, place, timestep, sample, output)
        following = scheduler.step(output, timestep, sample).prev_sample
        assert torch.allclose(found, scheduler.model_outputs[-1], rtol=1e-4, atol=1e-3)
        sample = following


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_x0_of_pndm_is_ddims_at_the_same_timestep(prediction: str) -> None:
    pndm = fresh(make(PNDMScheduler, skip_prk_steps=True, prediction_type=prediction), STEPS, CPU)
    ddim = fresh(make(DDIMScheduler, prediction_type=prediction), STEPS, CPU)
    for place, timestep in enumerate(pndm.timesteps):
        found = predict_x0(pndm, place, timestep, latents(0), latents(1))
        expected = ddim.step(latents(1), timestep, latents(0)).pred_original_sample
        assert torch.allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 4, 25, 50])
@pytest.mark.parametrize("kind", SCHEDULERS)
def test_evaluations_add_up_to_the_schedulers_own_timesteps(kind: Any, steps: int) -> None:
    options = {"skip_prk_steps": True} if kind is PNDMScheduler else {}
    scheduler = fresh(make(kind, **options), steps, CPU)
    counts = evaluations(scheduler, steps)
    assert len(counts) == steps
    assert sum(counts) == len(scheduler.timesteps)
    extra = kind is PNDMScheduler and steps > 1
    assert counts[0] == 1 + extra


def test_runge_kutta_steps_take_four_evaluations_each() -> None:
    counts = evaluations(fresh(make(PNDMScheduler), 10, CPU), 10)
    assert counts == [4, 4, 4, 1, 1, 1, 1, 1, 1, 1]


def test_a_scheduler_that_makes_another_number_of_steps_is_refused() -> None:
    scheduler = fresh(make(PNDMScheduler), 4, CPU)
    scheduler.timesteps = scheduler.timesteps[:-1]
    with pytest.raises(ValueError, match="PNDMScheduler makes 12 evaluations for 4 steps"):
        evaluations(scheduler, 4)


@pytest.mark.parametrize("options", [{"shift": 3.0}, {"use_dynamic_shifting": True}])
def test_x0_of_a_flow_is_where_its_velocity_leads(options: Any) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(stochastic_sampling=True, **options)
    scheduler = fresh(scheduler, STEPS, CPU, mu=0.7)
    sample = latents(0)
    for place in range(STEPS):
        timestep, output = scheduler.timesteps[place], latents(place + 1)
        found = predict_x0(scheduler, place, timestep, sample, output)
        noise = randn_like(sample, place)
        level = scheduler.sigmas[place + 1]
        following = scheduler.step(output, timestep, sample, generator=generator(place))[0]
        assert torch.allclose((1 - level) * found + level * noise, following, atol=1e-5)
        sample = following
    assert torch.allclose(found, sample, atol=1e-5)


@pytest.mark.parametrize("kind", [DPMSolverMultistepScheduler, UniPCMultistepScheduler])
def test_x0_of_a_flow_solver_is_what_it_keeps(kind: Any) -> None:
    scheduler = fresh(kind(prediction_type=FLOW, use_flow_sigmas=True), STEPS, CPU)
    sample = latents(0)
    for place in range(STEPS):
        timestep, output = scheduler.timesteps[place], latents(place + 1)
        found = predict_x0(scheduler, place, timestep, sample, output)
        following = scheduler.step(output, timestep, sample)[0]
        assert torch.allclose(found, scheduler.model_outputs[-1], atol=1e-5)
        sample = following


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn_like(sample: Tensor, seed: int) -> Tensor:
    return torch.randn(sample.shape, generator=generator(seed))


def test_the_shift_is_the_official_pipelines() -> None:
    from diffusers.pipelines.flux.pipeline_flux import calculate_shift

    scheduler = FlowMatchEulerDiscreteScheduler(base_shift=0.4, max_shift=1.3)
    for tokens in (16, 1024, 4096, 9000):
        assert flow_shift(scheduler, tokens) == calculate_shift(tokens, 256, 4096, 0.4, 1.3)


def test_a_model_of_a_noise_schedule_refuses_a_flow_and_the_reverse() -> None:
    flow = FlowMatchEulerDiscreteScheduler()
    check_scheduler(flow, flow=True)
    with pytest.raises(ValueError, match=r"'flow_prediction'.*needs one of epsilon"):
        check_scheduler(flow, flow=False)
    solver = make(DPMSolverMultistepScheduler, prediction_type=FLOW)
    with pytest.raises(ValueError, match=r"use_flow_sigmas False.*with use_flow_sigmas"):
        check_scheduler(solver, flow=True)
