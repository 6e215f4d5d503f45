"""Attention modules by name, and reference queries and keys for the self-check.

Several families share these functions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from promptprobe.probe.families.self_check import Given, Reference


def cross_attentions(denoiser: nn.Module) -> dict[str, nn.Module]:
    """The modules that diffusers marks as cross-attention, by name."""
    return {
        name: module
        for name, module in denoiser.named_modules()
        if getattr(module, "is_cross_attention", False)
    }


def cross_attention(layer: Any, given: Given) -> Reference:
    """The image's queries, and keys of text alone."""
    text = given["encoder_hidden_states"]
    if layer.norm_cross:
        text = layer.norm_encoder_hidden_states(text)
    query, key = layer.to_q(given["hidden_states"]), layer.to_k(text)
    if layer.norm_q is not None:
        query = layer.norm_q(query)
    if layer.norm_k is not None:
        key = layer.norm_k(key)
    query, key = (made.unflatten(-1, (layer.heads, -1)) for made in (query, key))
    mask = given.get("attention_mask")
    return Reference(query, key, mask=mask if mask is None else mask[:, 0], scale=layer.scale)


def blocks(denoiser: nn.Module, name: str, attention: str) -> dict[str, nn.Module]:
    """The attention modules of a list of transformer blocks, by name."""
    return {
        f"{name}.{at}.{attention}": getattr(block, attention)
        for at, block in enumerate(getattr(denoiser, name))
    }


def joint_and_single(denoiser: nn.Module) -> dict[str, nn.Module]:
    """The attention modules of FLUX's two kinds of block, by name."""
    return blocks(denoiser, "transformer_blocks", "attn") | blocks(
        denoiser, "single_transformer_blocks", "attn"
    )


def normed(
    norm: Any, rows: Float[Tensor, "batch token dim"], heads: int
) -> Float[Tensor, "batch token head dim_a_head"]:
    """Queries or keys, split into heads and normalized if the model does so."""
    split = rows.unflatten(-1, (heads, -1))
    return split if norm is None else norm(split)


def rotated(
    rows: Float[Tensor, "batch token head dim"], turns: Tensor
) -> Float[Tensor, "batch token head dim"]:
    """Rotary positions: neighbouring values, as complex numbers, times `turns` [token, dim / 2].

    Su et al. 2021, arXiv 2104.09864.
    """
    pairs = torch.view_as_complex(rows.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * turns.unsqueeze(-2)).flatten(-2).to(rows.dtype)


def adapters(pipeline: Any) -> Iterator[tuple[str, Tensor]]:
    """Active adapters (LoRA and other kinds of peft): their parameters and scales, by name.

    Text encoders and layers that are not captured are included: all of them change the picture.
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
