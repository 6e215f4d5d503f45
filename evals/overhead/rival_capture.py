"""attention-map-diffusers, the rival of `eval overhead`, asked through its own public API.

It is no dependency: its metadata asks for torchvision and more, of which capturing needs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

NAME, VERSION = "attention-map-diffusers", "1.0.0"
ABSENT = f"not installed; pip install --no-deps {NAME}=={VERSION}"
COMPARABLE, DEFAULT = "rival_comparable", "rival_default"
QUERIES = 256
"""Queries of a layer, at most: ours are a grid of 16 x 16."""


def installed() -> str | None:
    """The version that is here, or None."""
    try:
        import attention_map_diffusers
    except ModuleNotFoundError:
        return None
    return str(attention_map_diffusers.__version__)


@dataclass
class Rival:
    """Call it to run `denoise` with the rival's maps made."""

    pipeline: Any
    denoise: Callable[[], object]
    options: dict[str, Any]
    layers: int = 0
    """How many layers the maps of the last run were of."""

    def __call__(self) -> Any:
        """The rival's AttentionMaps. RuntimeError where it refuses, as it does beyond 8 GiB."""
        from attention_map_diffusers import AttentionCapture

        with AttentionCapture(self.pipeline, **self.options) as capture:
            self.denoise()
        maps = capture.compute()
        self.layers = len({record.layer_id for record in maps})
        return maps


def rivals(pipeline: Any, layers: Sequence[str], denoise: Callable[[], object]) -> dict[str, Rival]:
    """As near to ours as it can be asked, and as it comes; neither where it is not installed.

    Near: our layers, the last step alone, as many queries of each, all keys in the softmax, the
    mean over heads, made there and then and left on the device. It still keeps the unconditional
    half.
    """
    if not installed():
        return {}
    part = "unet" if hasattr(pipeline, "unet") else "transformer"
    near = {
        "layers": [f"{part}.{layer}" for layer in layers],
        "timesteps": "last",
        "query_indices": f"sample:{QUERIES}",
        "heads": "mean",
        "mode": "exact",
        "offload": None,
    }
    return {
        COMPARABLE: Rival(pipeline, denoise, near),
        DEFAULT: Rival(pipeline, denoise, {}),
    }
