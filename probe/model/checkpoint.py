"""A trained probe: its predictions from traces, and its folder on disk.

The folder has two files: weights (safetensors) and the card. Neither is trusted: the card is
validated by schema, the weights by hash, names, shapes and values. No pickle.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from promptprobe.probe.files import replacing, size_of
from promptprobe.probe.model.card import Card, ProbeError
from promptprobe.probe.model.network import Network, PreviewScore, no_preview_score
from promptprobe.probe.trace import Trace

CARD, WEIGHTS = "card.json", "probe.safetensors"
MOST_BYTES = {CARD: 2**20, WEIGHTS: 2**25}
LARGEST_WEIGHT = 1e4
"""Trained weights and normalizations stay below ten; anything above this limit is corrupt."""
BATCH = 64
OF_BATCH = ("maps", "mask", "embeddings", "x0", "gap")
"""The tensors of a trace."""


@dataclass(frozen=True)
class ProbePrediction:
    """The probe's prediction for one candidate."""

    score: float
    low: float
    high: float
    words: tuple[float, ...]
    """The chance that each content word is drawn as asked."""


@dataclass(frozen=True)
class Probe:
    """A network with its card."""

    network: Network
    card: Card

    def target(self, name: str) -> int:
        """Index of a target. ProbeError: the probe does not predict it."""
        names = [target.name for target in self.card.targets]
        if name not in names:
            raise ProbeError(
                f"this probe predicts {', '.join(map(repr, names))}, but the scorer in use "
                f"gives {name!r}"
            )
        return names.index(name)

    def predict(
        self, trace: Trace, k: int, look: PreviewScore | None = None, target: int = 0
    ) -> list[ProbePrediction]:
        """Predict each candidate's score, with its calibrated 90% interval.

        Args:
            trace: of the first k steps.
            k: one of the card's windows; for a model with another number of steps, see
                `Card.window_for`.
            look: what the first target's judge gives the decoded x0, on its own scale; without it,
                the prediction comes from maps and latents alone.
            target: index of the score to predict.

        Raises:
            ProbeError: the trace does not fit, or holds numbers that are not finite.
        """
        place = self.card.place(k)
        scale = self.card.targets[target]
        calibration = self.card.windows[place].calibration[target]
        predictions: list[ProbePrediction] = []
        with torch.inference_mode():
            for part, preview in _split(
                trace, look or no_preview_score(trace), self.network.map_mean.device
            ):
                preview = preview._replace(score=self.card.targets[0].share(preview.score))
                window = torch.full((len(part.mask),), place, device=part.mask.device)
                try:
                    output = self.network(part, preview, window)
                except ValueError as error:
                    raise ProbeError(str(error)) from error
                shares = calibration.of(*output.target(target))
                table = torch.stack([scale.score(x) for x in shares], 1)
                if not table.isfinite().all():
                    raise ProbeError("the trace holds numbers that are not finite")
                drawn = torch.sigmoid(output.words)
                predictions += [
                    ProbePrediction(value, start, end, tuple(chances[: len(words)]))
                    for (value, start, end), chances, words in zip(
                        table.tolist(), drawn.tolist(), part.words, strict=True
                    )
                ]
        return predictions


def save_probe(folder: Path, network: Network, card: Card) -> Card:
    """Write both files, each atomically; return the card with the weights' hash."""
    folder.mkdir(parents=True, exist_ok=True)
    data = save({name: x.detach().cpu().contiguous() for name, x in network.state_dict().items()})
    card = card.model_copy(update={"weights_sha256": hashlib.sha256(data).hexdigest()})
    text = card.model_dump_json(indent=1) + "\n"
    for name, content in ((WEIGHTS, data), (CARD, text.encode())):
        with replacing(folder / name) as partial:
            partial.write_bytes(content)
    return card


def load_probe(folder: Path) -> Probe:
    """Load a probe from its folder, on the CPU, ready to predict.

    ProbeError: a file is missing, truncated, corrupt or too large, or the two do not match.
    """
    folder = Path(folder)
    try:
        card = Card.model_validate_json(_read(folder / CARD))
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, found['loc'])) or 'the file'}: {found['msg']}"
            for found in error.errors()[:5]
        )
        raise ProbeError(f"{folder / CARD} is not a probe's card: {problems}") from error
    path = folder / WEIGHTS
    data = _read(path)
    digest = hashlib.sha256(data).hexdigest()
    if digest != card.weights_sha256:
        raise ProbeError(
            f"{path} is truncated or not the file that its card describes: expected sha256"
            f" {card.weights_sha256[:16]}..., got {digest[:16]}...; get both files again"
        )
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise ProbeError(f"{path} is not a safetensors file: {error}") from error
    network = Network(card.shape)
    _check_tensors(path, network.state_dict(), tensors)
    network.load_state_dict(tensors)
    return Probe(network.eval().requires_grad_(False), card)


def _read(path: Path) -> bytes:
    try:
        size = size_of(path)
        if size > MOST_BYTES[path.name]:
            raise ProbeError(f"{path} has {size} bytes, expected at most {MOST_BYTES[path.name]}")
        return path.read_bytes()
    except OSError as error:
        raise ProbeError(f"no probe can be read from {path}: {error.strerror or error}") from error


def _check_tensors(path: Path, expected: dict[str, Tensor], got: dict[str, Tensor]) -> None:
    if expected.keys() != got.keys():
        names = sorted(expected.keys() ^ got.keys())[:3]
        raise ProbeError(f"{path} does not have this network's weights: {', '.join(names)}")
    for name, tensor in got.items():
        shape, wanted = tuple(tensor.shape), tuple(expected[name].shape)
        if (shape, tensor.dtype) != (wanted, expected[name].dtype):
            raise ProbeError(
                f"{path}: {name} should be {expected[name].dtype} {wanted},"
                f" but is {tensor.dtype} {shape}"
            )
        if not tensor.isfinite().all():
            raise ProbeError(f"{path}: {name} holds numbers that are not finite")
        if tensor.numel() and (largest := tensor.abs().max().item()) > LARGEST_WEIGHT:
            raise ProbeError(
                f"{path}: {name} holds {largest:.3g}, but no weight may exceed"
                f" {LARGEST_WEIGHT:.0e}: get both files again, or retrain the probe"
            )


def _split(
    trace: Trace, look: PreviewScore, device: torch.device
) -> list[tuple[Trace, PreviewScore]]:
    """Parts of bounded size, so that memory does not grow with the number of candidates."""
    parts = [slice(at, at + BATCH) for at in range(0, len(trace.mask), BATCH)]
    return [
        (
            Trace(
                **{name: getattr(trace, name)[part].to(device) for name in OF_BATCH},
                words=trace.words[part],
                layers=trace.layers,
            ),
            PreviewScore(*(values[part].to(device) for values in look)),
        )
        for part in parts
    ]
