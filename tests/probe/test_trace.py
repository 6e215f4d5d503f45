"""Traces: the right words and steps, whatever the batch, the size or the prompt's length."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr

from promptprobe.probe.families.family import Family, Settings, State
from promptprobe.probe.statistics import peak
from promptprobe.probe.trace import Trace, join, record_trace, record_traces, word_focus
from tests import tiny
from tests.probe.pipelines import family_of

PROMPTS = ["a cat", "a red cat left of a blue car", "a photo of a green umbrella"]
SEEDS = [5, 6, 7]
SETTINGS = Settings(6, 3.0, 32, 32, "")
K = 3


@pytest.fixture(scope="module", params=list(tiny.PIPELINES))
def family(request: pytest.FixtureRequest, fresh_pipeline: Any) -> Family:
    """Each of them in turn; no test changes it."""
    return family_of(fresh_pipeline(request.param))


@pytest.fixture(scope="module")
def recorded(family: Family) -> tuple[Trace, State]:
    """What most tests look at."""
    return record_trace(family, PROMPTS, SEEDS, SETTINGS, K)


@pytest.fixture(scope="module")
def one_by_one(family: Family) -> list[tuple[Trace, State]]:
    """The same, each candidate alone."""
    return [
        record_trace(family, [prompt], [seed], SETTINGS, K)
        for prompt, seed in zip(PROMPTS, SEEDS, strict=True)
    ]


def row(trace: Trace, index: int) -> dict[str, torch.Tensor]:
    """One candidate without its padding."""
    words = len(trace.words[index])
    return {
        "maps": trace.maps[index, :words],
        "embeddings": trace.embeddings[index, :words],
        "x0": trace.x0[index],
        "gap": trace.gap[index],
    }


def test_a_trace_has_the_shapes_it_states(family: Family, recorded: tuple[Trace, State]) -> None:
    trace, state = recorded
    layers = len(family.layers())
    assert trace.words == (
        ("cat",),
        ("red", "cat", "left", "blue", "car"),
        ("photo", "green", "umbrella"),
    )
    assert trace.maps.shape == (3, 5, layers, 16, 16)
    assert trace.mask.sum(1).tolist() == [1, 5, 3]
    dim = family.encode(PROMPTS, SETTINGS).embeddings.shape[-1]
    assert trace.embeddings.shape == (3, 5, dim)
    assert trace.x0.shape == trace.gap.shape == (3, 4, 16, 16)
    assert len(trace.layers) == layers
    assert state.step == K


def test_words_never_share_more_than_all(recorded: tuple[Trace, State]) -> None:
    trace, _ = recorded
    assert bool((trace.maps.sum(1) < 1 + 1e-5).all())


def test_padding_is_zero_and_words_are_not(recorded: tuple[Trace, State]) -> None:
    trace, _ = recorded
    assert bool((trace.maps[~trace.mask] == 0).all())
    assert bool((trace.embeddings[~trace.mask] == 0).all())
    assert bool((trace.maps[trace.mask] > 0).all())


def each_token(family: Family, prompts: list[str], seeds: list[int], k: int) -> list[torch.Tensor]:
    """The first layer's map of every token, [token row col], after each of k steps."""
    conditioning = family.encode(prompts, SETTINGS)
    tokens = torch.eye(conditioning.embeddings.shape[1])[None]
    capture = family.capture(tokens, SETTINGS)
    steps: list[torch.Tensor] = []
    family.denoise(
        family.draw_noise(seeds, SETTINGS),
        conditioning,
        SETTINGS,
        k,
        lambda step, x0, gap: steps.append(next(iter(capture.take().values()))[0]),
        capture,
    )
    return [
        F.interpolate(maps[None], (16, 16), mode="bilinear", align_corners=False)[0]
        for maps in steps
    ]


@pytest.mark.parametrize("k", [1, 2, 4])
def test_maps_are_those_of_the_last_step(family: Family, k: int) -> None:
    trace, _ = record_trace(family, PROMPTS[1:2], SEEDS[1:2], SETTINGS, k)
    tokens = list(family.encode(PROMPTS[1:2], SETTINGS).words[0][0].tokens)
    red = [maps[tokens].sum(0) for maps in each_token(family, PROMPTS[1:2], SEEDS[1:2], k)]
    assert torch.allclose(trace.maps[0, 0, 0], red[-1], atol=1e-6)


def test_traces_of_several_windows_are_those_of_each_alone(
    family: Family, recorded: tuple[Trace, State]
) -> None:
    traces, state = record_traces(family, PROMPTS, SEEDS, SETTINGS, (4, 1, K))
    assert list(traces) == sorted({1, K, 4})
    assert state.step == 4
    for k, trace in traces.items():
        alone = recorded[0] if k == K else record_trace(family, PROMPTS, SEEDS, SETTINGS, k)[0]
        for index in range(len(PROMPTS)):
            for name, expected in row(alone, index).items():
                assert torch.equal(row(trace, index)[name], expected), (k, name)


def test_the_pieces_of_a_word_are_joined(family: Family) -> None:
    trace, _ = record_trace(family, PROMPTS[2:], SEEDS[2:], SETTINGS, 1)
    conditioning = family.encode(PROMPTS[2:], SETTINGS)
    umbrella = list(conditioning.words[0][2].tokens)
    assert len(umbrella) > 4
    [maps] = each_token(family, PROMPTS[2:], SEEDS[2:], 1)
    assert torch.allclose(trace.maps[0, 2, 0], maps[umbrella].sum(0), atol=1e-6)
    mean = conditioning.embeddings[0, umbrella].mean(0)
    assert torch.allclose(trace.embeddings[0, 2], mean, atol=1e-6)


def test_a_trace_and_its_image_do_not_depend_on_the_batch(
    family: Family, recorded: tuple[Trace, State], one_by_one: list[tuple[Trace, State]]
) -> None:
    together, state = recorded
    conditioning = family.encode(PROMPTS, SETTINGS)
    latents = family.denoise(state, conditioning, SETTINGS, SETTINGS.steps).latents
    images = family.decode(latents).astype(int)
    for index, (alone, own) in enumerate(one_by_one):
        for name, expected in row(alone, 0).items():
            assert (row(together, index)[name] - expected).abs().max() < 1e-4, name
        finished = family.denoise(own, family.encode([PROMPTS[index]], SETTINGS), SETTINGS, 6)
        assert (finished.latents[0] - latents[index]).abs().max() < 1e-4
        assert abs(family.decode(finished.latents)[0].astype(int) - images[index]).max() <= 1


def test_prompt_and_seed_both_show_in_the_maps(family: Family) -> None:
    prompts = ["a red cat", "a red cat", "a red dog"]
    trace, _ = record_trace(family, prompts, [5, 6, 5], SETTINGS, K)
    red = trace.maps[:, 0]
    assert (red[0] - red[1]).abs().max() > 1e-4
    assert (trace.maps[0, 1] - trace.maps[2, 1]).abs().max() > 1e-4


def test_recording_leaves_the_denoised_state_bit_identical(
    family: Family, recorded: tuple[Trace, State]
) -> None:
    _, state = recorded
    plain = family.denoise(
        family.draw_noise(SEEDS, SETTINGS), family.encode(PROMPTS, SETTINGS), SETTINGS, K
    )
    assert torch.equal(state.latents, plain.latents)


@pytest.mark.parametrize(("height", "width"), [(48, 32), (64, 80)])
def test_other_sizes_give_maps_of_the_same_grid(family: Family, height: int, width: int) -> None:
    settings = Settings(4, 3.0, height, width, "")
    trace, _ = record_trace(family, PROMPTS, SEEDS, settings, 2)
    assert trace.maps.shape[-2:] == (16, 16)
    assert trace.x0.shape[-2:] == (height // 2, width // 2)
    assert bool(trace.maps.isfinite().all())


def test_without_guidance_the_gap_is_zero(family: Family) -> None:
    trace, _ = record_trace(family, PROMPTS, SEEDS, Settings(6, 0.0, 32, 32, ""), K)
    assert bool((trace.gap == 0).all())
    assert bool((trace.maps[trace.mask] > 0).all())


def test_in_bfloat16_a_batch_ranks_candidates_as_each_alone_does(
    tiny_pipeline: Any, record_property: Any
) -> None:
    family = family_of(tiny_pipeline.to(torch.bfloat16))
    prompts, seeds = [PROMPTS[1], PROMPTS[2]] * 4, list(range(8))
    together, _ = record_trace(family, prompts, seeds, SETTINGS, K)
    alone = [
        record_trace(family, [prompt], [seed], SETTINGS, K)[0]
        for prompt, seed in zip(prompts, seeds, strict=True)
    ]
    agreement = spearmanr(
        [peak(join([trace]).maps)[0, 0].mean().item() for trace in alone],
        peak(together.maps)[:, 0].mean(-1).tolist(),
    ).statistic
    record_property("spearman", float(agreement))
    assert agreement > 0.9


def test_a_prompt_without_words_has_an_empty_mask(family: Family) -> None:
    trace, _ = record_trace(family, [""], [1], SETTINGS, 1)
    assert trace.words == ((),)
    assert trace.mask.tolist() == [[False]]
    assert word_focus(trace).tolist() == [[0.0]]


def test_joined_traces_keep_every_candidate(one_by_one: list[tuple[Trace, State]]) -> None:
    parts = [trace for trace, _ in one_by_one]
    whole = join(parts)
    assert whole.words == tuple(part.words[0] for part in parts)
    for index, part in enumerate(parts):
        for name, expected in row(part, 0).items():
            assert torch.equal(row(whole, index)[name], expected)
    assert whole.mask.sum(1).tolist() == [1, 5, 3]
    assert bool((whole.maps[~whole.mask] == 0).all())


def test_focus_is_a_share_and_nought_for_padding(recorded: tuple[Trace, State]) -> None:
    trace, _ = recorded
    focus = word_focus(trace)
    assert bool(((focus >= 0) & (focus <= 1)).all())
    assert bool((focus[~trace.mask] == 0).all())
    assert bool((focus[trace.mask] > 0).any())


@pytest.mark.parametrize("k", [0, 7])
def test_too_few_or_too_many_probed_steps_are_refused(family: Family, k: int) -> None:
    with pytest.raises(ValueError, match=f"expected from 1 to 6 steps to probe, got {k}"):
        record_trace(family, PROMPTS, SEEDS, SETTINGS, k)


def test_prompts_and_seeds_must_pair_up(family: Family) -> None:
    with pytest.raises(ValueError, match="3 prompts, but 2 seeds"):
        record_trace(family, PROMPTS, SEEDS[:2], SETTINGS, K)
