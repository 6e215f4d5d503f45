"""What LoRA and its kin (peft) have added to a pipeline, for the fingerprint of its weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn


def adapters(pipeline: Any) -> Iterator[tuple[str, Tensor]]:
    """Parameters of all adapters in use, and how strong each is, by name; none: no adapters.

    Of text encoders too, and of layers that are not captured: all of them change the picture.
    """
    for part, module in sorted(pipeline.components.items()):
        for name, layer in module.named_modules() if isinstance(module, nn.Module) else ():
            if not hasattr(layer, "adapter_layer_names") or layer.disable_adapters:
                continue
            scales = [layer.scaling[one] for one in layer.active_adapters if one in layer.scaling]
            yield f"{part}.{name}.scaling", torch.tensor(scales)
            for own, tensor in sorted(layer.state_dict().items()):
                if own.partition(".")[0] in layer.adapter_layer_names:
                    yield f"{part}.{name}.{own}", tensor
