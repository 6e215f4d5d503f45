"""Capture: exact maps, an untouched model, and a loud error where nothing can be seen."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from einops import rearrange
from torch import Tensor
from torch.overrides import _get_current_function_mode_stack as modes

from promptprobe.probe.capture import (
    Capture,
    CaptureError,
    extent,
    reference,
    sample_grid,
    self_check,
)
from promptprobe.probe.stable_diffusion import StableDiffusion

ROWS, COLS = 16, 16


def inputs(batch: int, size: tuple[int, int], seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "sample": torch.randn(batch, 4, *size, generator=generator),
        "timestep": torch.tensor(500),
        "encoder_hidden_states": torch.randn(batch, 24, 32, generator=generator),
    }


@pytest.fixture
def unet(ddim_pipeline: Any) -> Any:
    return ddim_pipeline.unet


@pytest.fixture
def layers(ddim_pipeline: Any) -> Any:
    return StableDiffusion(ddim_pipeline).layers()


def hooks_left(unet: Any) -> int:
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks) for module in unet.modules()
    )


def test_the_layers_are_the_cross_attentions_in_order(layers: Any) -> None:
    assert [name.split(".")[0] for name in layers] == [
        "down_blocks",
        "up_blocks",
        "up_blocks",
        "mid_block",
    ]
    assert all(name.endswith("attn2") for name in layers)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_capture_leaves_the_output_bit_identical(unet: Any, layers: Any, dtype: Any) -> None:
    unet.to(dtype)
    given = {name: tensor.to(dtype) for name, tensor in inputs(4, (ROWS, COLS)).items()}
    with torch.no_grad():
        before = unet(**given).sample
        with Capture(layers, batch=2, size=(ROWS, COLS)) as capture:
            during = unet(**given).sample
            assert len(capture.take()) == len(layers)
        after = unet(**given).sample
    assert torch.equal(before, during)
    assert torch.equal(before, after)


@pytest.mark.parametrize("size", [(16, 16), (32, 32), (24, 40), (9, 13)])
def test_maps_equal_a_plain_softmax_of_the_conditional_half(
    unet: Any, layers: Any, size: tuple[int, int]
) -> None:
    seen: dict[str, Tensor] = {}

    def remember(name: str) -> Any:
        def hook(module: Any, args: Any, kwargs: Any) -> None:
            seen[name] = reference(module, args[0], kwargs["encoder_hidden_states"])

        return hook

    hooks = [
        module.register_forward_pre_hook(remember(name), with_kwargs=True)
        for name, module in layers.items()
    ]
    with torch.no_grad(), Capture(layers, batch=2, size=size) as capture:
        unet(**inputs(4, size))
        maps = capture.take()
    for hook in hooks:
        hook.remove()
    for name, found in maps.items():
        rows, cols = extent(seen[name].shape[1], *size)
        places, shape = sample_grid(rows, cols)
        assert found.shape == (2, *shape, 24)
        expected = rearrange(seen[name][2:, places], "b (r c) k -> b r c k", r=shape[0])
        assert (found - expected).abs().max() < 1e-5
        assert (found.sum(-1) - 1).abs().max() < 1e-5


@pytest.mark.parametrize("kind", ["bool", "additive"])
def test_masked_keys_get_no_attention(unet: Any, layers: Any, kind: str) -> None:
    mask = torch.ones(2, 24)
    mask[:, 10:] = 0
    # diffusers turns a 2D mask of ones and zeros into a bias; a 3D one is taken as the bias.
    given = mask.bool() if kind == "bool" else ((1 - mask) * -10000.0)[:, None]
    with torch.no_grad(), Capture(layers, batch=2, size=(ROWS, COLS)) as capture:
        unet(**inputs(2, (ROWS, COLS)), encoder_attention_mask=given)
        maps = capture.take()
    for found in maps.values():
        assert found[..., 10:].abs().max() == 0
        assert (found.sum(-1) - 1).abs().max() < 1e-5


def test_only_the_conditional_half_counts(unet: Any, layers: Any) -> None:
    first, second = inputs(4, (ROWS, COLS)), inputs(4, (ROWS, COLS), seed=1)
    for name in ("sample", "encoder_hidden_states"):
        second[name][2:] = first[name][2:]
    maps = []
    with torch.no_grad(), Capture(layers, batch=2, size=(ROWS, COLS)) as capture:
        for given in (first, second):
            unet(**given)
            maps.append(capture.take())
    for name in layers:
        assert torch.allclose(maps[0][name], maps[1][name], atol=1e-6)


def test_after_an_exception_nothing_of_the_capture_is_left(unet: Any, layers: Any) -> None:
    hooks = hooks_left(unet)

    def fail(module: Any, args: Any) -> None:
        raise RuntimeError("broken on purpose")

    broken = list(layers.values())[1].to_k.register_forward_pre_hook(fail)
    with (
        pytest.raises(RuntimeError, match="broken on purpose"),
        Capture(layers, batch=2, size=(ROWS, COLS)),
    ):
        unet(**inputs(2, (ROWS, COLS)))
    broken.remove()
    assert hooks_left(unet) == hooks
    assert modes() == []


def test_capture_sees_only_what_runs_inside_it(unet: Any, layers: Any) -> None:
    with torch.no_grad(), Capture(layers, batch=2, size=(ROWS, COLS)) as capture:
        unet(**inputs(2, (ROWS, COLS)))
        assert modes() == []
        capture.take()
        with pytest.raises(CaptureError, match="no attention was captured in down_blocks"):
            capture.take()
    assert hooks_left(unet) == 0


@pytest.mark.parametrize("way", ["sliced", "plain"])
def test_a_processor_that_bypasses_the_interception_is_named(ddim_pipeline: Any, way: str) -> None:
    if way == "sliced":
        ddim_pipeline.enable_attention_slicing(1)
    else:
        ddim_pipeline.unet.set_attn_processor(AttnProcessor())
    with pytest.raises(CaptureError, match=r"(Sliced)?AttnProcessor does not call torch's"):
        StableDiffusion(ddim_pipeline)
    assert hooks_left(ddim_pipeline.unet) == 0
    ddim_pipeline.unet.set_attn_processor(AttnProcessor2_0())
    StableDiffusion(ddim_pipeline)


def test_a_model_without_cross_attention_is_refused() -> None:
    with pytest.raises(CaptureError, match="no cross-attention module"):
        Capture({}, batch=1, size=(ROWS, COLS))


def test_the_self_check_refuses_attention_that_is_computed_otherwise(
    unet: Any, layers: Any
) -> None:
    class Halved(AttnProcessor2_0):
        def __call__(self, attn: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
            return super().__call__(attn, hidden_states / 2, *args, **kwargs)

    next(iter(layers.values())).set_processor(Halved())

    def forward() -> None:
        with torch.no_grad():
            unet(**inputs(1, (ROWS, COLS)))

    with pytest.raises(CaptureError, match="from a plain softmax"):
        self_check(layers, forward, (ROWS, COLS))


def test_queries_are_sampled_evenly_and_at_most_sixteen_a_side() -> None:
    places, shape = sample_grid(64, 96)
    assert shape == (16, 16)
    rows, cols = places // 96, places % 96
    assert rows.unique().tolist() == list(range(2, 64, 4))
    assert cols.unique().tolist() == list(range(3, 96, 6))
    places, shape = sample_grid(8, 12)
    assert shape == (8, 12)
    assert places.tolist() == list(range(96))


def test_a_layers_extent_follows_halvings_that_round_up() -> None:
    assert extent(5 * 7, 9, 13) == (5, 7)
    assert extent(64 * 96, 64, 96) == (64, 96)
    with pytest.raises(CaptureError, match="fit no halving"):
        extent(50, 16, 16)
