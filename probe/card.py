"""A probe on disk: its weights as safetensors, and a card that says what they were validated for.

Nothing here is trusted: the card is validated by schema, the weights by hash, names, shapes and
values, and a model that differs from the card's in any fact is refused with the two values. No
pickle.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from promptprobe.probe.calibration import calibrated
from promptprobe.probe.family import Family, Settings
from promptprobe.probe.network import COVERAGE, Network, Shape
from promptprobe.probe.schedulers import prediction_type
from promptprobe.probe.stacking import Stack
from promptprobe.probe.trace import Trace, word_focus

CARD, WEIGHTS = "card.json", "probe.safetensors"
MOST_BYTES = {CARD: 2**20, WEIGHTS: 2**25}
BATCH = 64


class ProbeError(ValueError):
    """A probe that is missing, broken, or not meant for the model in use."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Facts(_Frozen):
    """What a probe depends on. In this first form every range is one value."""

    scheduler: str = Field(description="class name")
    prediction_type: str = Field(description="epsilon, v_prediction, sample or flow_prediction")
    dtype: str = Field(description="of the latents")
    guidance: float
    steps: int = Field(ge=1, description="of a full render")
    k: int = Field(ge=1, description="of these, how many are probed")
    timesteps: tuple[float, ...] = Field(description="where the probed steps stand on the path")
    height: int = Field(description="pixels")
    width: int = Field(description="pixels")
    negative_prompt: str
    keys: str = Field(description="what a row of attention, summing to one, is shared among")
    layers: tuple[str, ...] = Field(max_length=512, description="attention modules, by name")
    weights: str = Field(description="sha256 of these modules' parameters")


class Card(_Frozen):
    """What a probe is, and how good it was when it was made."""

    format: Literal["promptprobe probe 1"] = "promptprobe probe 1"
    model: str = Field(max_length=500, description="how the model was called; for people")
    ranges: Facts
    shape: Shape
    weights_sha256: str = Field(pattern="^[0-9a-f]{64}$", description="of probe.safetensors")
    target: str = Field(description="the score that is predicted")
    stack: Stack = Field(description="how the network and the preview's score make one")
    candidates: int = Field(ge=0, description="trained on")
    prompts: int = Field(ge=0)
    median: float = Field(
        ge=0, le=1, description="score of the training split: what counts as good"
    )
    margin: float = Field(ge=-1, le=1, description="added to both ends of the raw interval")
    coverage: float = Field(COVERAGE, gt=0, lt=1, description="of the interval")
    figures: dict[str, float] = Field(description="on validation scenes; test is left to the evals")


@dataclass(frozen=True)
class Prediction:
    """The probe's view of one candidate."""

    score: float
    low: float
    high: float
    unaided: float
    """The network's own score, which knows no preview."""
    words: tuple[tuple[str, float], ...]
    """Each content word and its focus: 0, attention spread evenly, to 1, settled on one place."""


@dataclass(frozen=True)
class Probe:
    """A network with its card."""

    network: Network
    card: Card

    def predict(self, trace: Trace, preview: Float[Tensor, " batch"]) -> list[Prediction]:
        """One prediction a candidate, with its calibrated 90% interval.

        preview: what the scorer that the probe was trained for says of the decoded x0, in [0, 1].
        ProbeError: the trace does not fit the network, or holds numbers that are not finite.
        """
        scores, lows, highs = [], [], []
        with torch.inference_mode():
            for part in _split(trace, self.network.map_mean.device):
                try:
                    output = self.network(part)
                except ValueError as error:
                    raise ProbeError(str(error)) from error
                scores.append(torch.sigmoid(output.logit))
                lows.append(output.low)
                highs.append(output.high)
        views = [torch.cat(parts).cpu() for parts in (scores, lows, highs)]
        score, low, high = (self.card.stack(view, preview) for view in views)
        low, high = calibrated(score, low, high, self.card.margin)
        broken = [at for at, value in enumerate(score.tolist()) if value != value]
        if broken:
            raise ProbeError(f"the traces of candidates {broken} hold numbers that are not finite")
        numbers = torch.stack([score, low, high, views[0]], 1).tolist()
        settled = word_focus(trace).tolist()
        return [
            Prediction(joined, start, end, alone, tuple(zip(words, values, strict=False)))
            for (joined, start, end, alone), words, values in zip(
                numbers, trace.words, settled, strict=True
            )
        ]


def facts_of(family: Family, settings: Settings, k: int) -> Facts:
    """The facts of the model in use, to be held against a card."""
    state = family.draw_noise([0], settings)
    digest = hashlib.sha256()
    for name, layer in family.layers().items():
        for part, tensor in sorted(layer.state_dict().items()):
            if tensor.is_meta:
                raise ProbeError(
                    "the model's weights are offloaded part by part, so they cannot be held "
                    "against the probe's card; offload it by models (enable_model_cpu_offload)"
                )
            digest.update(f"{name}.{part}{tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return Facts(
        scheduler=family.scheduler_name,
        prediction_type=prediction_type(state.scheduler),
        dtype=str(state.latents.dtype).removeprefix("torch."),
        guidance=settings.guidance,
        steps=settings.steps,
        k=k,
        timesteps=tuple(state.scheduler.timesteps[:k].tolist()),
        height=settings.height,
        width=settings.width,
        negative_prompt=settings.negative_prompt,
        keys=family.layout.keys,
        layers=tuple(family.layers()),
        weights=digest.hexdigest(),
    )


def check(card: Card, facts: Facts) -> None:
    """ProbeError, naming the two values, at the first fact outside what the probe was made for."""
    for name in Facts.model_fields:
        validated, used = getattr(card.ranges, name), getattr(facts, name)
        if validated != used:
            raise ProbeError(
                f"this probe was made for {name.replace('_', ' ')} {_short(validated)}, and the"
                f" model in use has {_short(used)}; use the former, or train a probe for the latter"
            )


def save_probe(folder: Path, network: Network, card: Card) -> Card:
    """Write both files, each whole or not at all; the card is returned with the weights' hash."""
    folder.mkdir(parents=True, exist_ok=True)
    data = save({name: x.detach().cpu().contiguous() for name, x in network.state_dict().items()})
    card = card.model_copy(update={"weights_sha256": hashlib.sha256(data).hexdigest()})
    text = card.model_dump_json(indent=1) + "\n"
    for name, content in ((WEIGHTS, data), (CARD, text.encode())):
        partial = folder / f"{name}.partial"
        partial.write_bytes(content)
        partial.replace(folder / name)
    return card


def load_probe(folder: Path) -> Probe:
    """The probe of a folder, on the CPU, ready to predict.

    ProbeError: a file is missing, truncated, corrupt, too large, or not what the other one says.
    """
    folder = Path(folder)
    try:
        card = Card.model_validate_json(_read(folder / CARD))
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, found['loc'])) or 'the file'}: {found['msg']}"
            for found in error.errors()[:5]
        )
        raise ProbeError(f"{folder / CARD} is no card of a probe: {problems}") from error
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
        raise ProbeError(f"{path} is no safetensors file: {error}") from error
    network = Network(card.shape)
    _check_tensors(path, network.state_dict(), tensors)
    network.load_state_dict(tensors)
    return Probe(network.eval().requires_grad_(False), card)


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MOST_BYTES[path.name]:
            raise ProbeError(f"{path} has {size} bytes, at most {MOST_BYTES[path.name]} expected")
        return path.read_bytes()
    except OSError as error:
        raise ProbeError(f"no probe can be read from {path}: {error.strerror}") from error


def _check_tensors(path: Path, expected: dict[str, Tensor], got: dict[str, Tensor]) -> None:
    if expected.keys() != got.keys():
        names = sorted(expected.keys() ^ got.keys())[:3]
        raise ProbeError(f"{path} has other weights than this network: {', '.join(names)}")
    for name, tensor in got.items():
        shape, wanted = tuple(tensor.shape), tuple(expected[name].shape)
        if (shape, tensor.dtype) != (wanted, expected[name].dtype):
            raise ProbeError(
                f"{path}: {name} should be {expected[name].dtype} {wanted},"
                f" and is {tensor.dtype} {shape}"
            )
        if not tensor.isfinite().all():
            raise ProbeError(f"{path}: {name} holds numbers that are not finite")


def _split(trace: Trace, device: torch.device) -> list[Trace]:
    """Parts of bounded size, so that memory does not grow with the number of candidates."""
    return [
        Trace(
            maps=trace.maps[part].to(device),
            mask=trace.mask[part].to(device),
            special=trace.special[part].to(device),
            embeddings=trace.embeddings[part].to(device),
            x0=trace.x0[part].to(device),
            gap=trace.gap[part].to(device),
            words=trace.words[part],
            layers=trace.layers,
        )
        for part in (slice(at, at + BATCH) for at in range(0, len(trace.mask), BATCH))
    ]


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 120 else f"{text[:120]}..."
