"""Denoisers and VAEs that several pipelines share."""

from __future__ import annotations

from typing import Any

NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def unet(**options: Any) -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(16, 32),
        norm_num_groups=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        **{"cross_attention_dim": 32, "attention_head_dim": 2, **options},
    )


def sharp(denoiser: Any, parts: tuple[str, ...] = ("attn2",)) -> Any:
    """Attention sharper than at random, so that prompts and places matter."""
    import torch

    with torch.no_grad():
        for name, parameter in denoiser.named_parameters():
            if any(part in name for part in parts) and parameter.ndim == 2:
                parameter.mul_(4)
    return denoiser


def kl_vae(**options: Any) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
        norm_num_groups=4,
        latent_channels=4,
        sample_size=32,
        **options,
    )
