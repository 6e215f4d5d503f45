"""The check at load: every layer's captured map must equal a plain softmax of the layer's inputs.

It runs the family's own verbs on one small candidate and computes the reference only from the
modules' projections, norms and rotations. So an unexpected mask, scale, slice of keys or processor
is found before anything is measured.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from promptprobe.probe.capture.capture import CaptureError, sample_grid
from promptprobe.probe.families.family import Family, Settings

TOLERANCE = 1e-4
"""How far a captured map may be from the plain reference. Tests allow a tenth of this; an
unexpected mask, slice or processor is off by far more."""
TRIED = (16, 24)
"""Rows and columns of the latents: larger than the grid, and not square."""
PROMPT = "a red cat"

Given = Mapping[str, Any]
"""The arguments of a layer's forward, by name; the first one is `hidden_states`."""


@dataclass(frozen=True)
class Reference:
    """Inputs of one layer's softmax, with the text's keys first, whatever the model's order."""

    query: Float[Tensor, "batch query head dim"]
    """Queries of the image's tokens."""
    text: Float[Tensor, "batch text head dim"]
    """Keys of the text's tokens."""
    others: Float[Tensor, "batch other head dim"] | None = None
    """All other keys that take a share, in joint attention."""
    mask: Tensor | None = None
    """[batch, key]: boolean, False at keys that get no attention, or a bias."""
    scale: float | None = None
    """Scale of the logits; None means 1 / sqrt(dim)."""

    def weights(self) -> Float[Tensor, "batch query text"]:
        """The text's share of each query's attention, averaged over heads."""
        keys = self.text if self.others is None else torch.cat([self.text, self.others], 1)
        scale = keys.shape[-1] ** -0.5 if self.scale is None else self.scale
        logits = torch.einsum("bqhd,bkhd->bhqk", self.query.float(), keys.float()) * scale
        if self.mask is not None and self.mask.dtype == torch.bool:
            logits = logits.masked_fill(~self.mask[:, None, None], -torch.inf)
        elif self.mask is not None:
            logits = logits + self.mask[:, None, None]
        return logits.softmax(-1).mean(1)[..., : self.text.shape[1]]


class Checked(Family, Protocol):
    """A family that can compute its attention's queries and keys plainly."""

    @property
    def pipeline(self) -> Any:
        """The diffusers pipeline."""

    def tokens(self, settings: Settings) -> int:
        """Tokens of the image, in joint attention."""

    def reference(self, layer: Any, given: Given, text: int, image: int) -> Reference:
        """A layer's queries and keys, computed plainly from the inputs of its forward."""


@torch.no_grad()
def self_check(family: Checked) -> None:
    """Compare every layer's captured map with the plain reference, on one step of one candidate.

    Raises CaptureError naming the first layer whose map is missing or wrong.
    """
    patch, scale = family.layout.patch, family.pipeline.vae_scale_factor
    height, width = (side * patch * scale for side in TRIED)
    settings = Settings(steps=4, guidance=0.0, height=height, width=width)
    conditioning = family.encode([PROMPT], settings)
    tokens = conditioning.embeddings.shape[1]
    capture = family.capture(torch.eye(tokens)[None], settings)
    with inputs_of(capture.layers) as given:
        noise = family.draw_noise([0], settings)
        family.denoise(noise, conditioning, settings, 1, capture=capture)
    size = noise.latents.shape[-2], noise.latents.shape[-1]
    image = family.tokens(settings)
    for name, found in capture.take().items():
        layer = capture.layers[name]
        expected = family.reference(layer, given[name], tokens, image).weights()
        places, _ = sample_grid(*family.layout.grid(expected.shape[1], size))
        wanted = rearrange(expected[:, places.to(expected.device)], "b query text -> b text query")
        error = (found.flatten(2) - wanted).abs().max().item()
        if not error <= TOLERANCE:
            raise CaptureError(
                f"the captured attention of {name} is {error:.2g} from a plain softmax, "
                f"expected at most {TOLERANCE}: this model's attention is not supported"
            )


@contextmanager
def inputs_of(layers: Mapping[str, nn.Module]) -> Iterator[dict[str, Given]]:
    """The arguments of the last call of each layer's forward, among the calls of this thread."""
    given: dict[str, Given] = {}
    thread = threading.get_ident()

    def remember(name: str) -> Callable[[nn.Module, Any, dict[str, Any]], None]:
        def hook(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
            if threading.get_ident() == thread:
                given[name] = dict(zip(("hidden_states",), args, strict=False)) | kwargs

        return hook

    hooks = [
        module.register_forward_pre_hook(remember(name), with_kwargs=True)
        for name, module in layers.items()
    ]
    try:
        yield given
    finally:
        for hook in hooks:
            hook.remove()
