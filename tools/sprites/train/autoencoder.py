"""Sprites' autoencoder: 64 x 64 pixels to 16 x 16 x 4 latents and back."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from torch import Tensor, nn
from torch.nn.functional import l1_loss, mse_loss

from promptprobe.tools.sprites.sheets import save_sheet
from promptprobe.tools.sprites.train.data import batch
from promptprobe.tools.sprites.train.loop import arguments, fit

BATCH = 32
UNSEEN = 2**31
"""A step that no training reaches, for pictures to inspect and to calibrate on."""
LATENT_NOISE = 0.15
"""Noise on the latents in training, which makes the decoder robust to the denoiser's errors."""


def build() -> AutoencoderTiny:
    return AutoencoderTiny(
        encoder_block_out_channels=(24, 24, 24),
        num_encoder_blocks=(1, 2, 3),
        decoder_block_out_channels=(24, 24, 24),
        num_decoder_blocks=(3, 2, 1),
        latent_channels=4,
    )


def loss(model: nn.Module, step: int) -> Tensor:
    assert isinstance(model, AutoencoderTiny)
    images, _, _ = batch(step, BATCH)
    generator = torch.Generator().manual_seed(step)
    latents = model.encode(images).latents
    noise = torch.randn(latents.shape, generator=generator)
    decoded = model.decode(latents + LATENT_NOISE * noise).sample
    centred = latents.mean((0, 2, 3)).square().mean()
    small = latents.square().mean()
    return l1_loss(decoded, images) + 2 * mse_loss(decoded, images) + 2e-3 * small + 1e-2 * centred


@torch.no_grad()
def sheet(model: nn.Module, path: Path) -> None:
    assert isinstance(model, AutoencoderTiny)
    images, _, _ = batch(UNSEEN, 32)
    decoded = model.decode(model.encode(images).latents).sample
    save_sheet(torch.cat([images, decoded]), path)


@torch.no_grad()
def calibrate(model: AutoencoderTiny) -> AutoencoderTiny:
    """Set the scaling factor, so that latents have unit variance as in Stable Diffusion."""
    images, _, _ = batch(UNSEEN, 256)
    model.register_to_config(scaling_factor=1 / model.encode(images).latents.std().item())
    return model


def main() -> None:
    options = arguments(__doc__, steps=900)
    model = fit(
        build(),
        loss,
        steps=options.steps,
        lr=2e-3,
        out=options.out,
        sheet=sheet,
        ema=0.99,
    )
    assert isinstance(model, AutoencoderTiny)
    calibrate(model).save_pretrained(options.out / "vae")


if __name__ == "__main__":
    main()
