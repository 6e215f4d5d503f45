"""Capture: exact maps in every family, an untouched model, a loud error where nothing is seen."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from einops import rearrange
from torch import Tensor
from torch.overrides import _get_current_function_mode_stack as modes

from promptprobe.probe.capture.capture import CaptureError, Layout, extent, sample_grid
from promptprobe.probe.families.family import Conditioning, Settings
from promptprobe.probe.families.pipeline import PipelineFamily
from promptprobe.probe.families.self_check import inputs_of
from tests import tiny
from tests.probe.pipelines import PROMPTS, SEEDS, family_of

GUIDED = Settings(4, 3.0, 32, 32)


def ready(family: Any, settings: Settings, prompts: list[str] = PROMPTS) -> tuple[Any, Any, Any]:
    """Conditioning, noise, and a capture that keeps every key of text apart."""
    conditioning = family.encode(prompts, settings)
    batch, tokens, _ = conditioning.embeddings.shape
    capture = family.capture(torch.eye(tokens).repeat(batch, 1, 1), settings)
    return conditioning, family.draw_noise(SEEDS[:batch], settings), capture


def traces_left(family: PipelineFamily) -> int:
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks)
        for module in family.denoiser.modules()
    ) + len(modes())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_capture_leaves_the_output_bit_identical(tiny_pipeline: Any, dtype: Any) -> None:
    family: Any = family_of(tiny_pipeline.to(dtype))
    conditioning, noise, capture = ready(family, GUIDED)
    before = family.denoise(noise, conditioning, GUIDED, 2).latents
    during = family.denoise(noise, conditioning, GUIDED, 2, capture=capture).latents
    assert len(capture.take()) == len(family.layers())
    after = family.denoise(noise, conditioning, GUIDED, 2).latents
    assert torch.equal(before, during)
    assert torch.equal(before, after)
    assert traces_left(family) == 0


@contextmanager
def first_inputs_of(layers: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What each layer's forward is called with, the first time.

    A call without the prompt, where a family makes one, comes after the conditional one. PNDM
    evaluates its first step twice, and the maps are those of the second time: `inputs_of`.
    """
    given: dict[str, Any] = {}

    def remember(name: str) -> Any:
        def hook(module: Any, args: Any, kwargs: Any) -> None:
            given.setdefault(name, dict(zip(("hidden_states",), args, strict=False)) | kwargs)

        return hook

    hooks = [
        module.register_forward_pre_hook(remember(name), with_kwargs=True)
        for name, module in layers.items()
    ]
    yield given
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("guidance", [0.0, 3.0])
@pytest.mark.parametrize(("height", "width"), [(32, 32), (72, 48)])
def test_maps_equal_a_plain_softmax_of_the_conditional_half(
    tiny_pipeline: Any, guidance: float, height: int, width: int
) -> None:
    family: Any = family_of(tiny_pipeline)
    settings = Settings(4, guidance, height, width)
    conditioning, noise, capture = ready(family, settings)
    twice = type(tiny_pipeline.scheduler).__name__ == "PNDMScheduler"
    with inputs_of(family.layers()) if twice else first_inputs_of(family.layers()) as given:
        family.denoise(noise, conditioning, settings, 1, capture=capture)
    found = capture.take()
    tokens, image = conditioning.embeddings.shape[1], family.tokens(settings)
    for name, maps in found.items():
        weights = family.reference(family.layers()[name], given[name], tokens, image).weights()
        rows = slice(0, 2) if family.layout.conditional == "first" else slice(-2, None)
        grid = family.layout.grid(weights.shape[1], noise.latents.shape[-2:])
        places, shape = sample_grid(*grid)
        expected = rearrange(
            weights[rows][:, places.to(weights.device)], "b (r c) key -> b key r c", r=shape[0]
        )
        assert maps.shape == expected.shape
        assert (maps - expected).abs().max() < 1e-5
        if family.layout.keys == "text":
            assert (maps.sum(1) - 1).abs().max() < 1e-5
        else:
            assert bool((maps.sum(1) < 1).all())


def test_rows_of_joint_attention_sum_to_one_over_text_and_image(fresh_pipeline: Any) -> None:
    for name in ("sd3", "flux", "qwen", "z_image"):
        family: Any = family_of(fresh_pipeline(name))
        settings = Settings(4, 0.0, 32, 32)
        conditioning, noise, _ = ready(family, settings)
        with inputs_of(family.layers()) as given:
            family.denoise(noise, conditioning, settings, 1)
        tokens, image = conditioning.embeddings.shape[1], family.tokens(settings)
        for layer in family.layers():
            made = family.reference(family.layers()[layer], given[layer], tokens, image)
            keys = made.text.shape[1] + made.others.shape[1]
            whole = torch.cat([made.text, made.others], 1)
            alone = type(made)(made.query, whole, mask=made.mask, scale=made.scale)
            assert keys == made.query.shape[1] + tokens or family.layout.multiple > 1
            assert (alone.weights().sum(-1) - 1).abs().max() < 1e-5


def test_a_word_that_changes_moves_the_share_of_its_own_keys(tiny_pipeline: Any) -> None:
    """Wherever the model puts the text, the map of a word is the map of its tokens."""
    family: Any = family_of(tiny_pipeline)
    settings = Settings(4, 0.0, 32, 32)
    conditioning, noise, capture = ready(family, settings, PROMPTS[:1])
    places = conditioning.words[0][1].tokens

    def first_layer(given: Conditioning) -> Tensor:
        family.denoise(noise, given, settings, 1, capture=capture)
        return next(iter(capture.take().values()))[0].flatten(1)

    before, after = first_layer(conditioning), first_layer(shouted(conditioning, places))
    moved = (after / before.clamp_min(1e-30)).log().nan_to_num(0, 0, 0).abs().mean(1)
    assert set(moved.topk(len(places)).indices.tolist()) == set(places)


def shouted(conditioning: Conditioning, tokens: tuple[int, ...]) -> Conditioning:
    """The same with other embeddings at these places."""
    cond = dict(conditioning.cond)
    name = "cap_feats" if "cap_feats" in cond else "encoder_hidden_states"
    rows = [row.clone() for row in cond[name]]
    for row in rows:
        row[list(tokens)] = torch.flip(row[list(tokens)], (-1,)) + 1
    cond[name] = rows if isinstance(cond[name], list) else torch.stack(rows)
    return Conditioning(conditioning.embeddings, conditioning.words, conditioning.cut, cond)


def test_masked_keys_get_no_attention(fresh_pipeline: Any) -> None:
    family: Any = family_of(fresh_pipeline("pixart"))
    conditioning, noise, capture = ready(family, GUIDED)
    family.denoise(noise, conditioning, GUIDED, 1, capture=capture)
    padding = conditioning.cond["encoder_attention_mask"][2:] == 0
    for found in capture.take().values():
        assert found[padding].abs().max() == 0
        assert (found.sum(1) - 1).abs().max() < 1e-5


@pytest.mark.parametrize("name", sorted(tiny.PIPELINES.keys() - {"flux", "klein", "pndm"}))
def test_only_the_conditional_half_counts(fresh_pipeline: Any, name: str) -> None:
    """FLUX.1 has no other half, FLUX.2 no other text for it; PNDM's second evaluation starts from
    where guidance led."""
    family: Any = family_of(fresh_pipeline(name))
    assert family.guided(GUIDED)
    maps = []
    for negative in ("", "a photo of a blue car"):
        settings = Settings(4, 3.0, 32, 32, negative)
        conditioning, noise, capture = ready(family, settings)
        family.denoise(noise, conditioning, settings, 1, capture=capture)
        maps.append(capture.take())
    for layer in family.layers():
        assert torch.allclose(maps[0][layer], maps[1][layer], atol=1e-6)


def test_after_an_exception_nothing_of_the_capture_is_left(tiny_pipeline: Any) -> None:
    family: Any = family_of(tiny_pipeline)
    conditioning, noise, capture = ready(family, GUIDED)

    def fail(module: Any, args: Any) -> None:
        raise RuntimeError("broken on purpose")

    broken = list(family.layers().values())[1].to_k.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="broken on purpose"):
        family.denoise(noise, conditioning, GUIDED, 1, capture=capture)
    broken.remove()
    assert traces_left(family) == 0
    with pytest.raises(CaptureError, match="no attention was captured"):
        capture.take()


def test_memory_does_not_grow_over_a_hundred_captures(fresh_pipeline: Any) -> None:
    for name in ("ddim", "flux"):
        family: Any = family_of(fresh_pipeline(name))
        conditioning, noise, capture = ready(family, GUIDED)
        counts = []
        for done in range(105):
            family.denoise(noise, conditioning, GUIDED, 1, capture=capture)
            capture.take()
            if done in (4, 104):
                gc.collect()
                counts.append(Counter(type(thing) for thing in gc.get_objects()))
        grown = counts[1] - counts[0]
        assert grown.most_common(1)[0][1] < 100  # torch fills a cache of its own meanwhile
        assert grown[Tensor] == 0


def test_a_model_without_attention_to_text_is_refused(ddim_pipeline: Any) -> None:
    class Blind(type(family_of(ddim_pipeline))):  # type: ignore[misc]
        def layers(self) -> dict[str, Any]:
            return {}

    with pytest.raises(CaptureError, match="no attention from image to text"):
        Blind(ddim_pipeline)


def test_a_wrong_slice_of_keys_is_refused_at_load(fresh_pipeline: Any) -> None:
    pipeline = fresh_pipeline("sd3")
    known: Any = type(family_of(pipeline))

    class Shifted(known):
        layout = Layout("first", patch=2)

    with pytest.raises(CaptureError, match="from a plain softmax"):
        Shifted(pipeline)

    class Cross(known):
        layout = Layout("apart")

    with pytest.raises(CaptureError, match=r"no repeated halving|text keys"):
        Cross(pipeline)


def test_the_self_check_refuses_attention_that_is_computed_otherwise(ddim_pipeline: Any) -> None:
    class Halved(AttnProcessor2_0):
        def __call__(self, attn: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
            return super().__call__(attn, hidden_states / 2, *args, **kwargs)

    next(iter(family_of(ddim_pipeline).layers().values())).set_processor(Halved())  # type: ignore[operator]
    with pytest.raises(CaptureError, match="from a plain softmax"):
        family_of(ddim_pipeline)


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
    with pytest.raises(CaptureError, match="no repeated halving"):
        extent(50, 16, 16)
