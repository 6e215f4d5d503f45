"""Variants within a family: taken as they are, or refused with what was expected."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import (
    FirstBlockCacheConfig,
    FluxTransformer2DModel,
    PyramidAttentionBroadcastConfig,
    SD3Transformer2DModel,
)

from promptprobe.probe.families.family import CallArguments, Settings
from promptprobe.probe.trace import record_trace
from tests.probe.pipelines import (
    PROMPTS,
    SEEDS,
    SETTINGS,
    family_of,
    fit,
    full,
    official,
)
from tests.tiny.encoders import TOKEN_LIMIT

SAYS_NOTHING = replace(SETTINGS, negative_prompt="")


def rebuilt(model: Any, kind: Any, **changed: Any) -> Any:
    torch.manual_seed(0)
    config = {name: value for name, value in model.config.items() if not name.startswith("_")}
    return kind(**(config | changed)).eval().to(model.device)


def test_flux_takes_no_negative_prompt(fresh_pipeline: Any) -> None:
    family = family_of(fresh_pipeline("flux"))
    with pytest.raises(ValueError, match=r"FLUX\.1 takes no negative prompt"):
        family.encode(PROMPTS, SETTINGS)


def test_flux_is_told_its_guidance(fresh_pipeline: Any) -> None:
    family = family_of(fresh_pipeline("flux"))
    more = replace(SAYS_NOTHING, guidance=30.0)
    assert not torch.equal(full(family, SAYS_NOTHING).latents, full(family, more).latents)


def test_flux_without_guidance_as_an_input_is_schnell(fresh_pipeline: Any) -> None:
    pipeline = fresh_pipeline("flux")
    pipeline.transformer = rebuilt(
        pipeline.transformer, FluxTransformer2DModel, guidance_embeds=False
    )
    expected = official(pipeline, SAYS_NOTHING, "latent")
    assert torch.equal(full(family_of(pipeline), SAYS_NOTHING).latents, expected)


@pytest.mark.parametrize(
    "cache",
    [
        FirstBlockCacheConfig(),
        PyramidAttentionBroadcastConfig(
            spatial_attention_block_skip_range=2, current_timestep_callback=lambda: 500
        ),
    ],
    ids=["first_block_cache", "pyramid_attention_broadcast"],
)
def test_a_step_cache_of_diffusers_is_refused_by_name(
    fresh_pipeline: Any, cache: Any, request: pytest.FixtureRequest
) -> None:
    pipeline = fresh_pipeline("flux")
    pipeline.transformer.enable_cache(cache)
    name = request.node.callspec.id
    with pytest.raises(
        ValueError, match=rf"cache {name} is enabled.*transformer\.disable_cache\(\)"
    ):
        family_of(pipeline)
    pipeline.transformer.disable_cache()
    family_of(pipeline)


def test_deep_cache_is_refused_by_name(ddim_pipeline: Any) -> None:
    """Its helper puts a function of its own over the UNet's forward."""

    class DeepCacheSDHelper:
        def wrap_unet_forward(self, forward: Any) -> Any:
            def wrapped_forward(*args: Any, **kwargs: Any) -> Any:
                return forward(*args, **kwargs)

            return wrapped_forward

    unet = ddim_pipeline.unet
    unet.forward = DeepCacheSDHelper().wrap_unet_forward(unet.forward)
    with pytest.raises(ValueError, match=r"cache DeepCache is enabled.*helper\.disable\(\)"):
        family_of(ddim_pipeline)


def test_flux_2_is_guided_by_a_second_call_unless_it_is_distilled(fresh_pipeline: Any) -> None:
    pipeline = fresh_pipeline("klein")
    family = family_of(pipeline)
    with pytest.raises(ValueError, match=r"FLUX\.2 \[klein\] takes no negative prompt"):
        family.encode(PROMPTS, SETTINGS)
    alone = replace(SAYS_NOTHING, guidance=1.0)
    assert family.nfe(SAYS_NOTHING, 0, 6) == 2 * family.nfe(alone, 0, 6)
    guided, _ = record_trace(family, PROMPTS, SEEDS, SAYS_NOTHING, 1)
    plain, _ = record_trace(family, PROMPTS, SEEDS, alone, 1)
    assert torch.allclose(guided.maps, plain.maps, atol=1e-6)
    assert guided.gap.abs().max() > 0 == plain.gap.abs().max()
    pipeline.register_to_config(is_distilled=True)
    expected = official(pipeline, SAYS_NOTHING, "latent")
    assert torch.equal(full(family, SAYS_NOTHING).latents, expected)


def test_stable_diffusion_3_does_without_t5(fresh_pipeline: Any) -> None:
    pipeline = fresh_pipeline("sd3")
    both = family_of(pipeline).encode(PROMPTS, SETTINGS).words[0][0].tokens
    pipeline.text_encoder_3 = pipeline.tokenizer_3 = None
    family = family_of(pipeline)
    assert family.encode(PROMPTS, SETTINGS).words[0][0].tokens == both[:1]
    assert both[1] >= TOKEN_LIMIT
    expected = official(pipeline, SETTINGS, "latent")
    assert torch.equal(full(family, SETTINGS).latents, expected)


def test_stable_diffusion_3_0_has_no_norms_of_queries_and_keys(fresh_pipeline: Any) -> None:
    pipeline = fresh_pipeline("sd3")
    pipeline.transformer = rebuilt(
        pipeline.transformer, SD3Transformer2DModel, qk_norm=None, dual_attention_layers=()
    )
    expected = official(pipeline, SETTINGS, "latent")
    assert torch.equal(full(family_of(pipeline), SETTINGS).latents, expected)


@pytest.mark.parametrize("name", ["sd3", "flux"])
def test_a_path_that_shifts_with_the_size_is_the_official_one(
    fresh_pipeline: Any, name: str
) -> None:
    pipeline = fresh_pipeline(name)
    pipeline.scheduler = type(pipeline.scheduler)(use_dynamic_shifting=True, max_shift=2.0)
    for height in (32, 64):
        settings = replace(SAYS_NOTHING, height=height)
        expected = official(pipeline, settings, "latent")
        assert torch.equal(full(family_of(pipeline), settings).latents, expected)


def test_a_distilled_qwen_image_is_refused(fresh_pipeline: Any) -> None:
    pipeline = fresh_pipeline("qwen")
    pipeline.transformer.register_to_config(guidance_embeds=True)
    with pytest.raises(ValueError, match="guidance-distilled Qwen-Image is not supported"):
        family_of(pipeline)


def test_z_image_counts_no_padding_as_image(fresh_pipeline: Any) -> None:
    """At 24 x 40 pixels the image has 60 tokens, padded to 64, and the text comes after those."""
    family = family_of(fresh_pipeline("z_image"))
    trace, _ = record_trace(family, PROMPTS, SEEDS, Settings(4, 2.0, 24, 40), 2)
    assert bool((trace.maps[trace.mask] > 0).all())
    assert bool((trace.maps.sum(1) < 1).all())


EXTRA = [
    ("ddim", {"guidance_rescale": 0.7, "eta": 0.5}),
    ("xl", {"guidance_rescale": 0.7, "clip_skip": 1}),
    ("sd3", {"clip_skip": 1, "max_sequence_length": 24}),
    ("flux", {"max_sequence_length": 24}),
    ("qwen", {"max_sequence_length": 5}),
    ("pixart", {"max_sequence_length": 5}),
    ("klein", {"max_sequence_length": 14}),
    ("z_image", {"max_sequence_length": 14}),
    ("sana", {"max_sequence_length": 5}),
]


@pytest.mark.parametrize(("name", "extra"), EXTRA)
def test_further_arguments_mean_what_they_mean_to_the_official_call(
    fresh_pipeline: Any, name: str, extra: dict[str, Any]
) -> None:
    pipeline = fresh_pipeline(name)
    plain = fit(pipeline, SETTINGS)
    asked = replace(plain, extra=CallArguments(**extra))
    family = family_of(pipeline)
    found = full(family, asked).latents
    assert torch.equal(found, official(pipeline, asked, "latent"))
    assert not torch.equal(found, full(family, plain).latents)


def test_further_arguments_that_a_model_does_not_take_are_refused_by_name(
    fresh_pipeline: Any,
) -> None:
    family = family_of(fresh_pipeline("flux"))
    asked = replace(SAYS_NOTHING, extra=CallArguments(clip_skip=1, eta=0.5))
    with pytest.raises(ValueError, match=r"FLUX\.1 does not take clip_skip or eta here; .*max_seq"):
        family.draw_noise(SEEDS, asked)
