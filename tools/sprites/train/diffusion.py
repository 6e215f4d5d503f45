"""Trains Sprites' denoiser and text encoder together, and writes the pipeline folder.

`python -m promptprobe.tools.sprites.train.diffusion --vae DIR --out DIR` (see weights/README.md for
how long it takes). v-prediction (Salimans & Ho 2022) with zero terminal SNR (Lin et al. 2023).
"""

from __future__ import annotations

import argparse
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from diffusers import (
    AutoencoderTiny,
    DDIMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from promptprobe.tools.sprites.language import word
from promptprobe.tools.sprites.sheets import save_sheet
from promptprobe.tools.sprites.train.data import batch, to_model
from promptprobe.tools.sprites.train.loop import fit
from promptprobe.tools.sprites.train.tokenizer import build_tokenizer
from promptprobe.tools.sprites.world import KINDS, scenes

BATCH = 32
TEXT = 128
UNCONDITIONAL = 0.1
"""Share of captions dropped, for classifier-free guidance."""
HIGH, LOW = 20.0, 0.1
"""Sigma at the second and at the last of 25 steps, between which steps fall evenly in log sigma.
Objects stand out so far from the ground that at sigma 3 their outlines are already plain: below
that lies colour, and layout and nouns are decided above it, where most of the steps must be.
`promptprobe eval model` measures how structure forms along the path."""
STRUCTURE = 2.0
"""The error of x0 weighs at most this much more than plainly. Weighing all of the path alike, as
v-prediction does, nearly half of the loss is detail below sigma .3 that no model can know."""


class Denoiser(nn.Module):
    """The two networks that learn together."""

    def __init__(self, vocabulary: int, end: int) -> None:
        super().__init__()
        self.text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=vocabulary,
                hidden_size=TEXT,
                intermediate_size=4 * TEXT,
                projection_dim=TEXT,
                num_hidden_layers=3,
                num_attention_heads=4,
                max_position_embeddings=32,
                bos_token_id=end - 1,
                eos_token_id=end,
                pad_token_id=end,
            )
        )
        self.unet = UNet2DConditionModel(
            sample_size=16,
            in_channels=4,
            out_channels=4,
            layers_per_block=1,
            block_out_channels=(32, 64, 128),
            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=TEXT,
            attention_head_dim=2,  # diffusers' name for the number of heads
            norm_num_groups=8,
        )

    def forward(self, noisy: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        text = self.text_encoder(tokens).last_hidden_state
        velocity: Tensor = self.unet(noisy, t, encoder_hidden_states=text).sample
        return velocity


@cache
def build_scheduler() -> DDIMScheduler:
    """25 trailing steps: pure noise, then sigma log-uniform from HIGH to LOW."""
    t = np.arange(1000)
    rate = np.log(HIGH / LOW) / (959 - 39)
    log_sigma = np.log(LOW) + rate * (t - 39)
    log_sigma[960:] = np.linspace(np.log(HIGH), np.log(20 * HIGH), 41)[1:]
    kept = 1 / (1 + np.exp(2 * log_sigma))
    kept[-1] = 0.0
    betas = 1 - kept / np.concatenate([[1.0], kept[:-1]])
    return DDIMScheduler(
        trained_betas=[round(float(beta), 9) for beta in betas],
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
    )


def loss(vae: AutoencoderTiny, tokenizer: CLIPTokenizer, model: nn.Module, step: int) -> Tensor:
    scheduler = build_scheduler()
    images, _, chosen = batch(step, BATCH)
    rng = np.random.default_rng([step, 11])
    captions = ["" if rng.random() < UNCONDITIONAL else word(scene, rng) for scene in chosen]
    generator = torch.Generator().manual_seed(step)
    with torch.no_grad():
        latents = vae.encode(images).latents * vae.config.scaling_factor
    noise = torch.randn(latents.shape, generator=generator)
    # Stratified: every batch sees the whole path, and more of it where structure forms.
    place = (torch.arange(BATCH) + torch.rand(BATCH, generator=generator)) / BATCH
    t = ((1 - place**1.5) * 1000).long().clamp_max(999)
    weight = (STRUCTURE * (1 - scheduler.alphas_cumprod[t])).clamp_max(1)
    noisy = scheduler.add_noise(latents, noise, t)
    velocity = model(noisy, t, tokenize(tokenizer, captions))
    error = (velocity - scheduler.get_velocity(latents, noise, t)).square().mean((1, 2, 3))
    return (weight * error).mean()


def tokenize(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    tokens: Tensor = tokenizer(
        captions, padding="max_length", truncation=True, return_tensors="pt"
    ).input_ids
    return tokens


def assemble(
    vae: AutoencoderTiny, tokenizer: CLIPTokenizer, model: nn.Module
) -> StableDiffusionPipeline:
    """The networks as the pipeline that a Stable Diffusion user knows."""
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=model.text_encoder,
        tokenizer=tokenizer,
        unet=model.unet,
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def save(pipeline: StableDiffusionPipeline, folder: Path) -> None:
    """A pipeline folder. The denoiser is rounded to half precision on disk, which halves the wheel;
    diffusers loads it in full precision again."""
    pipeline.unet.half()
    pipeline.save_pretrained(folder)


@torch.no_grad()
def sheet(vae: AutoencoderTiny, tokenizer: CLIPTokenizer, model: nn.Module, path: Path) -> None:
    """Two wordings a kind, validation scenes where there are any."""
    rng = np.random.default_rng(3)
    prompts = []
    for kind in KINDS:
        pool = [scene for scene in scenes(kind) if scene.split == "validation"] or scenes(kind)
        prompts += [word(pool[rng.integers(len(pool))], rng, "plain") for _ in range(2)]
    seeds = [torch.Generator().manual_seed(i) for i in range(len(prompts))]
    images = assemble(vae, tokenizer, model)(
        prompts, num_inference_steps=25, guidance_scale=3.0, generator=seeds, output_type="np"
    ).images
    save_sheet(to_model(torch.from_numpy((images * 255).round().astype(np.uint8))), path, columns=6)
    path.with_suffix(".txt").write_text("\n".join(prompts) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vae", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=9000, help=f"batches of {BATCH} images")
    options = parser.parse_args()
    torch.manual_seed(0)
    vae = AutoencoderTiny.from_pretrained(options.vae).eval().requires_grad_(False)
    tokenizer = build_tokenizer()
    model = fit(
        Denoiser(len(tokenizer), tokenizer.eos_token_id),
        partial(loss, vae, tokenizer),
        steps=options.steps,
        lr=1e-3,
        out=options.out,
        sheet=partial(sheet, vae, tokenizer),
        decay=1.0,
    )
    save(assemble(vae, tokenizer, model), options.out / "pipeline")


if __name__ == "__main__":
    main()
