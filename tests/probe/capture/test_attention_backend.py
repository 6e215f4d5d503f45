"""What bypasses torch's own attention is switched off for probed steps, and back on after them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from diffusers.models.attention_dispatch import (
    AttentionBackendName,
    _AttentionBackendRegistry,
    attention_backend,
)
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0

from promptprobe.probe.capture.attention_backend import is_compiled, torch_attention
from promptprobe.probe.capture.capture import CaptureError
from promptprobe.probe.trace import record_trace
from tests.probe.pipelines import PROMPTS, SEEDS, SETTINGS, family_of, fit, full

DISPATCHED = ("flux", "qwen", "z_image")


@pytest.fixture(autouse=True)
def backend_of_the_process() -> Iterator[None]:
    """Setting a model's backend sets diffusers' default for the whole process, too."""
    before = _AttentionBackendRegistry._active_backend
    yield
    _AttentionBackendRegistry.set_active_backend(before)


def slicing(pipeline: Any) -> None:
    pipeline.enable_attention_slicing(1)


def plain(pipeline: Any) -> None:
    pipeline.unet.set_attn_processor(AttnProcessor())


def fused(pipeline: Any) -> None:
    pipeline.unet.fuse_qkv_projections()


def compiled(pipeline: Any) -> None:
    pipeline.unet = torch.compile(pipeline.unet, backend="eager")


def compiled_in_place(pipeline: Any) -> None:
    pipeline.unet.compile(backend="eager")


def compiled_blocks(pipeline: Any) -> None:
    pipeline.unet.compile_repeated_blocks(backend="eager")


def processors(denoiser: Any) -> dict[str, Any]:
    return {
        name: (module.processor, getattr(module.processor, "_attention_backend", None))
        for name, module in denoiser.named_modules()
        if hasattr(module, "processor")
    }


def maps_of(pipeline: Any, k: int = 2) -> torch.Tensor:
    return record_trace(family_of(pipeline), PROMPTS, SEEDS, fit(pipeline, SETTINGS), k)[0].maps


@pytest.mark.parametrize(
    "choose", [slicing, plain, fused, compiled, compiled_in_place, compiled_blocks]
)
def test_a_unet_is_probed_whatever_its_user_chose(ddim_pipeline: Any, choose: Any) -> None:
    expected = maps_of(ddim_pipeline)
    choose(ddim_pipeline)
    unet, before = ddim_pipeline.unet, processors(ddim_pipeline.unet)
    was_compiled = is_compiled(unet)
    assert (maps_of(ddim_pipeline) - expected).abs().max() < 1e-5
    assert ddim_pipeline.unet is unet
    assert processors(unet) == before
    assert is_compiled(unet) is was_compiled
    stance = torch._dynamo.eval_frame._stance.stance
    assert stance == "default"
    # What is rendered unprobed takes the user's way.
    full(family_of(ddim_pipeline), SETTINGS)


@pytest.mark.parametrize("name", DISPATCHED)
@pytest.mark.parametrize("globally", [False, True])
def test_a_dispatched_backend_gives_way_and_comes_back(
    fresh_pipeline: Any, name: str, globally: bool
) -> None:
    pipeline = fresh_pipeline(name)
    expected = maps_of(pipeline)
    backend = AttentionBackendName._NATIVE_MATH
    if globally:
        with attention_backend(backend):
            found = maps_of(pipeline)
            assert _AttentionBackendRegistry._active_backend == backend
    else:
        pipeline.transformer.set_attention_backend(backend.value)
        before = processors(pipeline.transformer)
        found = maps_of(pipeline)
        assert processors(pipeline.transformer) == before
        assert {chosen for _, chosen in before.values()} == {backend}
    assert (found - expected).abs().max() < 1e-5  # layers that are not captured keep theirs


def test_a_backend_that_never_calls_torch_is_bypassed_for_the_captured_step_only(
    fresh_pipeline: Any,
) -> None:
    pipeline = fresh_pipeline("flux")
    family, settings = family_of(pipeline), fit(pipeline, SETTINGS)
    conditioning, noise = family.encode(PROMPTS, settings), family.draw_noise(SEEDS, settings)
    expected = maps_of(pipeline, 1)
    for layer in family.layers().values():  # set_attention_backend would ask for the package
        layer.processor._attention_backend = AttentionBackendName.FLASH  # type: ignore[union-attr]
    assert torch.equal(maps_of(pipeline, 1), expected)
    with pytest.raises(TypeError, match="NoneType"):  # the package that is not there
        family.denoise(noise, conditioning, settings, 1)


def test_after_an_error_the_users_choice_is_back(ddim_pipeline: Any) -> None:
    slicing(ddim_pipeline)
    layers = family_of(ddim_pipeline).layers()
    before = processors(ddim_pipeline.unet)

    def fail() -> None:
        with torch_attention(layers.values(), compiled=False):
            assert processors(ddim_pipeline.unet) != before
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        fail()
    assert processors(ddim_pipeline.unet) == before


def test_a_processor_that_nothing_is_known_of_is_named_at_load(ddim_pipeline: Any) -> None:
    class Mystery(AttnProcessor):
        """Computes attention without torch's function, and is not what it is called."""

    ddim_pipeline.unet.set_attn_processor(Mystery())
    with pytest.raises(CaptureError, match=r"captured in .*attn2: Mystery does not call torch's"):
        family_of(ddim_pipeline)
    assert not any(module._forward_hooks for module in ddim_pipeline.unet.modules())
    ddim_pipeline.unet.set_attn_processor(AttnProcessor2_0())
    family_of(ddim_pipeline)
