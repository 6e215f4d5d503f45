"""The network: what must not matter to it, and what it refuses."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch

from promptprobe.probe.model.network import (
    Network,
    NetworkConfig,
    Output,
    PreviewScore,
    no_preview_score,
)
from promptprobe.probe.trace import Trace

SHAPE = NetworkConfig(layers=4, channels=4, dim=16, windows=2, targets=2, width=8)


def a_trace(counts: list[int], *, size: int = 16) -> Trace:
    """Random traces of candidates with so many words each."""
    torch.manual_seed(0)
    batch, most = len(counts), max(counts)
    mask = torch.arange(most) < torch.tensor(counts)[:, None]
    return Trace(
        maps=torch.rand(batch, most, 4, 16, 16),
        mask=mask,
        embeddings=torch.randn(batch, most, 16),
        x0=torch.randn(batch, 4, size, size),
        gap=torch.randn(batch, 4, size, size),
        words=tuple(("word",) * count for count in counts),
        layers=("a", "b", "c", "d"),
    )


def ask(
    network: Network, trace: Trace, look: PreviewScore | None = None, window: int = 0
) -> Output:
    """What it says after a window's steps; nobody looked, unless told."""
    return network(trace, look or no_preview_score(trace), torch.full((len(trace.mask),), window))


@pytest.fixture
def network() -> Network:
    torch.manual_seed(1)
    made = Network(SHAPE).eval()
    for parameter in made.parameters():  # away from its start, where blocks are the identity
        torch.nn.init.normal_(parameter, std=0.2)
    return made


def test_the_order_of_the_words_changes_nothing(network: Network) -> None:
    trace = a_trace([3, 3])
    turned = replace(trace, maps=trace.maps.flip(1), embeddings=trace.embeddings.flip(1))
    torch.testing.assert_close(ask(network, turned).logit, ask(network, trace).logit)


def test_padding_changes_nothing_whatever_it_holds(network: Network) -> None:
    trace = a_trace([2, 2])
    padded = replace(
        trace,
        maps=torch.cat([trace.maps, torch.full((2, 3, 4, 16, 16), 9.0)], 1),
        embeddings=torch.cat([trace.embeddings, torch.full((2, 3, 16), 9.0)], 1),
        mask=torch.cat([trace.mask, torch.zeros(2, 3, dtype=torch.bool)], 1),
    )
    for plain, other in zip(ask(network, trace), ask(network, padded), strict=True):
        torch.testing.assert_close(plain, other[:, : plain.shape[1]])
        assert not other[:, plain.shape[1] :].any()


def test_a_candidate_is_judged_alike_alone_and_in_a_batch(network: Network) -> None:
    trace = a_trace([1, 4, 2])
    alone = replace(
        trace,
        **{
            field.name: getattr(trace, field.name)[2:]
            for field in fields(trace)
            if field.name != "layers"
        },
    )
    torch.testing.assert_close(ask(network, alone).logit[0], ask(network, trace).logit[2])


@pytest.mark.parametrize("name", ["maps", "embeddings", "x0", "gap"])
def test_every_part_of_the_trace_matters(network: Network, name: str) -> None:
    trace = a_trace([2])
    changed = replace(trace, **{name: getattr(trace, name).flip(-1)})
    assert (ask(network, trace).logit - ask(network, changed).logit).abs().max() > 1e-4


def test_where_a_word_looks_matters_not_only_how_much(network: Network) -> None:
    trace = a_trace([2])
    moved = replace(trace, maps=trace.maps.roll(8, -1))
    assert (ask(network, trace).logit - ask(network, moved).logit).abs().max() > 1e-4


def test_what_a_judge_sees_matters_as_a_whole_and_word_by_word(network: Network) -> None:
    trace = a_trace([2, 2])
    nothing = no_preview_score(trace)
    whole = nothing._replace(score=torch.tensor([0.2, 0.9]))
    by_word = nothing._replace(words=torch.tensor([[0.1, 0.9], [torch.nan, torch.nan]]))
    plain = ask(network, trace)
    assert (ask(network, trace, whole).logit - plain.logit).abs().min() > 1e-4
    seen = ask(network, trace, by_word)
    assert (seen.words[0] - plain.words[0]).abs().min() > 1e-4
    torch.testing.assert_close(seen.logit[1], plain.logit[1])


def test_the_number_of_steps_matters(network: Network) -> None:
    trace = a_trace([2])
    assert (ask(network, trace).logit - ask(network, trace, window=1).logit).abs().max() > 1e-4


def test_candidates_after_different_steps_share_a_batch(network: Network) -> None:
    trace = a_trace([2, 2])
    mixed = network(trace, no_preview_score(trace), torch.tensor([0, 1])).logit
    torch.testing.assert_close(mixed[0], ask(network, trace).logit[0])
    torch.testing.assert_close(mixed[1], ask(network, trace, window=1).logit[1])


def test_a_prompt_without_words_is_judged_by_its_latents(network: Network) -> None:
    trace = a_trace([2, 2])
    wordless = replace(trace, mask=torch.tensor([[True, True], [False, False]]))
    assert ask(network, wordless).logit.isfinite().all()


def test_latents_of_any_size_are_brought_to_the_grid(network: Network) -> None:
    assert ask(network, a_trace([2], size=64)).logit.isfinite().all()


def test_the_raw_interval_lies_around_the_score(network: Network) -> None:
    output = ask(network, a_trace([2, 3]))
    assert (output.low < output.logit).all()
    assert (output.high > output.logit).all()


@pytest.mark.parametrize(("layers", "dim"), [(14, 128), (32, 768), (32, 1024)])
def test_it_has_less_than_a_million_weights(layers: int, dim: int) -> None:
    made = Network(NetworkConfig(layers=layers, channels=4, dim=dim))
    assert sum(parameter.numel() for parameter in made.parameters()) < 1_000_000


def test_a_trace_of_another_model_is_refused_with_both_numbers() -> None:
    other = Network(NetworkConfig(layers=6, channels=4, dim=16, width=8))
    with pytest.raises(ValueError, match="reads 6 attention maps per word, but the trace has 4"):
        ask(other, a_trace([2]))


def test_standardizing_makes_the_inputs_of_one_window_comparable() -> None:
    network, trace = Network(SHAPE), a_trace([2, 3, 1])
    network.standardize(trace, 1)
    words = torch.ones(6, dtype=torch.long)
    maps = network.maps(trace.maps[trace.mask], words)
    assert maps.mean((0, 2, 3)).abs().max() < 1e-3
    assert (maps.std((0, 2, 3)) - 1).abs().max() < 1e-2
    assert network.map_mean[1].any() and not network.map_mean[0].any()
