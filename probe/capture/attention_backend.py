"""Switches to torch's own attention for the captured step, and back to the user's afterwards.

Capture sees calls of torch's scaled_dot_product_attention. Slicing, xformers and plain processors
compute the same attention another way, so they are replaced; a backend of diffusers' dispatcher
(flash, sage, flex ...) is set to "native"; a compiled module runs uncompiled. A processor that is
not listed is left alone: it may compute something different.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from diffusers.models.attention_dispatch import AttentionBackendName
from diffusers.models.attention_processor import AttnProcessor2_0, JointAttnProcessor2_0
from torch import nn

NATIVE: dict[str, type[Any]] = {
    "AttnProcessor": AttnProcessor2_0,
    "SlicedAttnProcessor": AttnProcessor2_0,
    "XFormersAttnProcessor": AttnProcessor2_0,
    "XFormersJointAttnProcessor": JointAttnProcessor2_0,
}
"""By class name, the processor that computes the same with torch's function."""


@contextmanager
def torch_attention(layers: Iterable[nn.Module], compiled: bool) -> Iterator[None]:
    """Use torch's attention in these layers, uncompiled if need be; restore both on leaving."""
    with ExitStack() as undo:
        for layer in layers:
            processor = getattr(layer, "processor", None)
            native = NATIVE.get(type(processor).__name__)
            if native is not None:
                undo.callback(setattr, layer, "processor", processor)
                layer.processor = native()
            elif processor is not None and hasattr(processor, "_attention_backend"):
                undo.callback(
                    setattr, processor, "_attention_backend", processor._attention_backend
                )
                processor._attention_backend = AttentionBackendName.NATIVE
        if compiled:
            undo.enter_context(torch.compiler.set_stance("force_eager"))
        yield


def is_compiled(module: nn.Module) -> bool:
    """Whether the module, or a part of it, was compiled by torch.compile."""
    return hasattr(module, "_orig_mod") or any(
        getattr(part, "_compiled_call_impl", None) is not None for part in module.modules()
    )
