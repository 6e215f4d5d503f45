"""attention-map-diffusers, the rival in `eval overhead`, called through its public API.

It is not a dependency: its metadata requires torchvision and more, which capturing does not need.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

NAME, VERSION = "attention-map-diffusers", "1.0.0"
ABSENT = f"not installed; pip install --no-deps {NAME}=={VERSION}"
COMPARABLE, DEFAULT = "rival_comparable", "rival_default"
QUERIES = 256
"""Maximum number of queries of a layer, as in our grid of 16 x 16."""


def installed() -> str | None:
    """The installed version, or None."""
    try:
        import attention_map_diffusers
    except ModuleNotFoundError:
        return None
    return str(attention_map_diffusers.__version__)


@dataclass
class Rival:
    """Call it to run `denoise` with the rival's capture."""

    pipeline: Any
    denoise: Callable[[], object]
    options: dict[str, Any]
    layers: int = 0
    """Number of layers captured in the last run."""

    def __call__(self) -> Any:
        """The rival's AttentionMaps. RuntimeError: it refuses, as it does beyond 8 GiB."""
        from attention_map_diffusers import AttentionCapture

        with AttentionCapture(self.pipeline, **self.options) as capture:
            self.denoise()
        maps = capture.compute()
        self.layers = len({record.layer_id for record in maps})
        return maps


def rivals(pipeline: Any, layers: Sequence[str], denoise: Callable[[], object]) -> dict[str, Rival]:
    """The rival with settings comparable to ours, and with its defaults; empty if not installed.

    Comparable settings are our layers, the last step only, equally many queries of each layer, all
    keys in the softmax, and the mean over heads, computed at once and kept on the device. It still
    keeps the unconditional half.
    """
    if not installed():
        return {}
    part = "unet" if hasattr(pipeline, "unet") else "transformer"
    comparable = {
        "layers": [f"{part}.{layer}" for layer in layers],
        "timesteps": "last",
        "query_indices": f"sample:{QUERIES}",
        "heads": "mean",
        "mode": "exact",
        "offload": None,
    }
    return {
        COMPARABLE: Rival(pipeline, denoise, comparable),
        DEFAULT: Rival(pipeline, denoise, {}),
    }
