"""A probe that has learned nothing, for evals of what is computed rather than how well."""

from __future__ import annotations

from typing import Any


def random_probe(
    family: Any, settings: Any, targets: tuple[str, ...], windows: tuple[int, ...]
) -> Any:
    """A probe with random weights, made for a model and its settings."""
    import torch

    from promptprobe.probe.model.calibration import Calibration
    from promptprobe.probe.model.card import Card, ProbeStep, Target, model_spec_of, ranges_of
    from promptprobe.probe.model.checkpoint import Probe
    from promptprobe.probe.model.network import Network, NetworkConfig
    from promptprobe.probe.trace import record_trace

    trace, _ = record_trace(family, ["a cat"], [0], settings, 1)
    shape = NetworkConfig(
        layers=trace.maps.shape[2],
        channels=trace.x0.shape[1],
        dim=trace.embeddings.shape[2],
        targets=len(targets),
        windows=len(windows),
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Network(shape).eval()
    facts = model_spec_of(family, settings)
    calibration = (Calibration(margin=1.0),) * len(targets)
    card = Card(
        model="tiny",
        made_with=facts,
        ranges=ranges_of(facts),
        shape=shape,
        weights_sha256="0" * 64,
        candidates=0,
        prompts=0,
        targets=tuple(Target(name=name, low=0.0, high=1.0, median=0.25) for name in targets),
        windows=tuple(ProbeStep(k=k, calibration=calibration, figures={}) for k in windows),
    )
    return Probe(network, card)
