"""What a family needs from diffusers' schedulers: cost, noise level, and the state to carry.

Only schedulers in CARRIED are accepted: the attributes listed there are all that changes while they
step, so a candidate saved in one batch continues exactly in another.
"""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from promptprobe.probe.families import CARRIED
from promptprobe.probe.families.family import Latents, StateError

NOISE_PREDICTIONS = ("epsilon", "v_prediction", "sample")
FLOW = "flow_prediction"


def check_scheduler(scheduler: Any, *, flow: bool) -> None:
    """Raise ValueError for a scheduler whose state cannot be carried, or of the wrong kind.

    flow: whether the model predicts the velocity of a straight path from image to noise.
    """
    name, config = type(scheduler).__name__, scheduler.config
    fit = "FlowMatchEulerDiscreteScheduler" if flow else "DDIMScheduler"
    if name not in CARRIED:
        known = ", ".join(CARRIED)
        raise ValueError(
            f"the scheduler {name} cannot be stopped and continued exactly; use one of: {known}. "
            f"For example: pipeline.scheduler = {fit}.from_config(pipeline.scheduler.config)"
        )
    found, accepted = prediction_type(scheduler), (FLOW,) if flow else NOISE_PREDICTIONS
    if found not in accepted or (flow and not config.get("use_flow_sigmas", name == fit)):
        raise ValueError(
            f"{name} has prediction_type {found!r} and use_flow_sigmas "
            f"{config.get('use_flow_sigmas', found == FLOW)}; this model needs one of "
            f"{', '.join(accepted)}{' with use_flow_sigmas' if flow else ''}, as {fit} has"
        )


def prediction_type(scheduler: Any) -> str:
    """What the denoiser predicts; flow schedulers have only one kind and may not name it."""
    return str(scheduler.config.get("prediction_type", FLOW))


def exchanged(scheduler: Any, name: str) -> Any:
    """A scheduler of another class, with the configuration of the model's own.

    name: a class in CARRIED.
    """
    import diffusers

    config = scheduler.config
    flow = {}
    if prediction_type(scheduler) == FLOW:
        shift = config.get("shift", config.get("flow_shift", 1.0))
        flow = {"prediction_type": FLOW, "use_flow_sigmas": True}
        flow |= {"flow_shift": shift, "shift": shift}
    kind = getattr(diffusers, name)
    accepted = inspect.signature(kind).parameters
    return kind.from_config(config, **{key: flow[key] for key in flow if key in accepted})


def fresh(scheduler: Any, steps: int, device: torch.device, **schedule: Any) -> Any:
    """A copy with its timesteps set; the pipeline's own scheduler is not changed.

    schedule: what the official pipeline passes to `set_timesteps` besides the number of steps.
    """
    own = copy.deepcopy(scheduler)
    own.set_timesteps(steps, device=device, **schedule)
    return own


def flow_shift(scheduler: Any, tokens: int, most: float = 1.15) -> float:
    """How far flow models shift their path towards noise for an image of `tokens` tokens (`mu`).

    Esser et al. 2024, arXiv 2403.03206, section 5.3.2, as diffusers' pipelines compute it; `most`
    is the default for `max_shift`. A scheduler without dynamic shifting ignores the result.
    """
    config = scheduler.config
    few, many = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    base, top = config.get("base_shift", 0.5), config.get("max_shift", most)
    slope = (top - base) / (many - few)
    return float(tokens * slope + (base - slope * few))


def even_sigmas(scheduler: Any, steps: int) -> dict[str, Any]:
    """The sigmas that FLUX-like pipelines set, unless the scheduler computes flow sigmas."""
    if scheduler.config.get("use_flow_sigmas"):
        return {}
    return {"sigmas": np.linspace(1.0, 1 / steps, steps)}


def evaluations(scheduler: Any, steps: int) -> list[int]:
    """Denoiser evaluations of each step, not counting guidance; timesteps must be set.

    PNDM makes an extra one in its first step, or four in each of the first three with Runge-Kutta.
    """
    counts = [1] * steps
    total = len(scheduler.timesteps)
    if type(scheduler).__name__ == "PNDMScheduler":
        if scheduler.config.skip_prk_steps:
            counts[0] += total - steps
        else:
            counts[:3] = [4, 4, 4]
    if sum(counts) != total:
        raise ValueError(
            f"{type(scheduler).__name__} makes {total} evaluations for {steps} steps, "
            f"expected {sum(counts)}; use another number of steps or another scheduler"
        )
    return counts


def noise_level(
    scheduler: Any, index: int, timestep: Tensor
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Signal and noise (alpha, sigma) of the scaled model input, alpha^2 + sigma^2 = 1."""
    if hasattr(scheduler, "sigmas"):
        ratio = scheduler.sigmas[index].float()
        alpha = (1 + ratio**2) ** -0.5
        return alpha, ratio * alpha
    signal = scheduler.alphas_cumprod[timestep.cpu()].float()
    return signal**0.5, (1 - signal) ** 0.5


def predict_x0(
    scheduler: Any, index: int, timestep: Tensor, scaled: Latents, prediction: Latents
) -> Latents:
    """The clean latents that a prediction implies, from the *scaled* model input.

    Salimans & Ho 2022 (arXiv 2202.00512): with v = alpha eps - sigma x0,
    x0 = alpha x - sigma v; with eps, x0 = (x - sigma eps) / alpha. Flow models walk
    x = (1 - sigma) x0 + sigma noise and predict noise - x0 (Lipman et al. 2023, arXiv 2210.02747).
    """
    kind = prediction_type(scheduler)
    if kind == FLOW:
        return scaled - scheduler.sigmas[index].to(scaled) * prediction
    alpha, sigma = (level.to(scaled) for level in noise_level(scheduler, index, timestep))
    match kind:
        case "epsilon":
            return (scaled - sigma * prediction) / alpha
        case "v_prediction":
            return alpha * scaled - sigma * prediction
        case _:
            return prediction


def public_config(scheduler: Any) -> dict[str, Any]:
    """The scheduler's configuration as plain JSON values, without private keys."""
    config = json.loads(scheduler.to_json_string())
    return {key: value for key, value in config.items() if not key.startswith("_")}


def pack(scheduler: Any, index: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """One candidate's share of the carried attributes: a JSON object and the tensors it names."""
    tensors: dict[str, Tensor] = {}

    def share(name: str, value: Any) -> Any:
        if isinstance(value, Tensor):
            tensors[name] = (value[index] if value.ndim == 4 else value).detach().cpu().clone()
            return {"tensor": name}
        if isinstance(value, list):
            return [share(f"{name}.{place}", item) for place, item in enumerate(value)]
        if value is None or isinstance(value, bool | int | float):
            return value
        raise TypeError(f"{type(scheduler).__name__}.{name} is a {type(value).__name__}")

    names = CARRIED[type(scheduler).__name__]
    # UniPC sets this_order only in its first step.
    values = {
        name: share(name, getattr(scheduler, name)) for name in names if hasattr(scheduler, name)
    }
    return values, tensors


def unpack(
    scheduler: Any, values: Sequence[dict[str, Any]], tensors: Sequence[dict[str, Tensor]]
) -> None:
    """Set the carried attributes of a fresh scheduler from its candidates' shares."""

    def whole(name: str, shares: Sequence[Any]) -> Any:
        first = shares[0]
        if isinstance(first, dict):
            parts = [_tensor(name, share, own) for share, own in zip(shares, tensors, strict=True)]
            if parts[0].ndim == 3:
                return torch.stack(parts)
            if all(torch.equal(part, parts[0]) for part in parts):
                return parts[0]
        elif isinstance(first, list) and all(
            isinstance(share, list) and len(share) == len(first) for share in shares
        ):
            columns = zip(*shares, strict=True)
            return [whole(f"{name}.{place}", column) for place, column in enumerate(columns)]
        elif first is None or isinstance(first, bool | int | float):
            if all(share == first for share in shares):
                return first
        raise StateError(f"the saved states differ in {name}: they stopped at different steps")

    for name in CARRIED[type(scheduler).__name__]:
        present = [name in share for share in values]
        if all(present):
            setattr(scheduler, name, whole(name, [share[name] for share in values]))
        elif any(present) or hasattr(scheduler, name):
            raise StateError(f"a saved state lacks the scheduler's {name}")


def _tensor(name: str, share: Any, tensors: dict[str, Tensor]) -> Tensor:
    part = tensors.get(name) if share == {"tensor": name} else None
    if (
        part is None
        or part.ndim not in (0, 3)
        or (part.ndim == 3 and part.shape != tensors["latents"].shape)
    ):
        raise StateError(f"a saved state's {name} is missing or not shaped like its latents")
    return part
