"""Trains Sprites' denoiser and text encoder together, and writes the pipeline folder.

`python -m promptprobe.tools.sprites.train.diffusion --vae DIR --out DIR` (see weights/README.md for
how long it takes). It uses v-prediction (Salimans & Ho 2022) with zero terminal SNR (Lin et al.
2023).
"""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderTiny,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from promptprobe.tools.sprites.language import word
from promptprobe.tools.sprites.sheets import save_sheet
from promptprobe.tools.sprites.train.data import FIRST, MIX, batch, to_model
from promptprobe.tools.sprites.train.loop import arguments, fit
from promptprobe.tools.sprites.train.tokenizer import build_tokenizer
from promptprobe.tools.sprites.world import KINDS, Scene, scenes

BATCH = 32
TEXT = 128
UNCONDITIONAL = 0.1
"""Share of captions dropped, for classifier-free guidance."""
SHIFT = 0.6
"""Sigma is SHIFT * u / (1 - u) over the remaining share u of the path: rectified flow's spacing,
shifted for the small canvas as SD3 shifts it for large ones (arXiv 2403.03206). Objects contrast
with the ground so strongly that layout and nouns are decided between sigma 10 and 2.
`promptprobe eval model` measures how structure forms along the path."""
DECISIVE, SPREAD = 4.0, 1.0
"""Three quarters of the training times are log-normal around this sigma. Here an object's position
becomes known but not yet its outline, so nouns are learned best."""
PLAIN = 12.0
"""The error of x0 grows with sigma up to about here. Each time is weighted by the inverse of that
error (EDM2's uncertainty weighting, arXiv 2312.02696, without learning it); otherwise the
irreducible uncertainty about positions at high sigma would drown what outlines and nouns teach."""
SIMPLE = 1200
"""The first SIMPLE batches show single objects with plain captions."""


class Denoiser(nn.Module):
    """The two networks that are trained together."""

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
            block_out_channels=(48, 96, 128),
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
    """Trailing steps from pure noise, sigma spaced by SHIFT."""
    left = np.arange(1, 1001) / 1000
    kept = (1 - left) ** 2 / ((1 - left) ** 2 + (SHIFT * left) ** 2)
    kept[-1] = 2**-24  # diffusers' value for zero, since solvers divide by it
    betas = 1 - kept / np.concatenate([[1.0], kept[:-1]])
    return DDIMScheduler(
        trained_betas=[round(float(beta), 9) for beta in betas],
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample=False,
        steps_offset=1,
    )


def loss(vae: AutoencoderTiny, tokenizer: CLIPTokenizer, model: nn.Module, step: int) -> Tensor:
    scheduler = build_scheduler()
    simple = step < SIMPLE
    images, _, chosen = batch(step, BATCH, FIRST if simple else MIX)
    captions = captioned(chosen, np.random.default_rng([step, 11]), simple)
    generator = torch.Generator().manual_seed(step)
    with torch.no_grad():
        latents = vae.encode(images).latents * vae.config.scaling_factor
    noise = torch.randn(latents.shape, generator=generator)
    t = draw_times(generator)
    weight = weigh(scheduler.alphas_cumprod[t])
    noisy = scheduler.add_noise(latents, noise, t)
    velocity = model(noisy, t, tokenize(tokenizer, captions))
    error = (velocity - scheduler.get_velocity(latents, noise, t)).square().mean((1, 2, 3))
    return (weight * error).mean()


def captioned(chosen: list[Scene], rng: np.random.Generator, simple: bool) -> list[str]:
    """A caption for each scene, some of them dropped for classifier-free guidance."""
    return [
        "" if rng.random() < UNCONDITIONAL else word(scene, rng, "plain" if simple else None)
        for scene in chosen
    ]


def draw_times(generator: torch.Generator) -> Tensor:
    """Times [BATCH]: a quarter stratified over the whole path, the rest around DECISIVE."""
    count = BATCH // 4
    evenly = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    odds = torch.randn(BATCH - count, generator=generator) * SPREAD + np.log(DECISIVE / SHIFT)
    return (torch.cat([evenly, odds.sigmoid()]) * 1000).long().clamp(0, 999)


def weigh(kept: Tensor) -> Tensor:
    """Weight of the velocity's error, given the share of variance kept from x0."""
    sigma = ((1 - kept) / kept.clamp_min(1e-6)).sqrt()
    return (1 - kept) * (1 + (PLAIN / sigma).square()).sqrt()


def tokenize(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    tokens: Tensor = tokenizer(
        captions, padding="max_length", truncation=True, return_tensors="pt"
    ).input_ids
    return tokens


def assemble(
    vae: AutoencoderTiny, tokenizer: CLIPTokenizer, model: nn.Module
) -> StableDiffusionPipeline:
    """The networks as a `StableDiffusionPipeline`."""
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=model.text_encoder,
        tokenizer=tokenizer,
        unet=model.unet,
        scheduler=DPMSolverMultistepScheduler.from_config(build_scheduler().config),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def save(pipeline: StableDiffusionPipeline, folder: Path) -> None:
    """Write a pipeline folder. The denoiser is stored in half precision, which halves the wheel;
    diffusers loads it in full precision again."""
    pipeline.unet.half()
    pipeline.save_pretrained(folder)


def validation_prompts() -> list[str]:
    """Two wordings for each kind, of validation scenes if the kind has any."""
    rng = np.random.default_rng(3)
    prompts = []
    for kind in KINDS:
        pool = [scene for scene in scenes(kind) if scene.split == "validation"] or scenes(kind)
        prompts += [word(pool[rng.integers(len(pool))], rng, "plain") for _ in range(2)]
    return prompts


def sheet(vae: AutoencoderTiny, tokenizer: CLIPTokenizer, model: nn.Module, path: Path) -> None:
    """Draw samples of the current model."""
    draw_sheet(assemble(vae, tokenizer, model), path, guidance_scale=2.0)


@torch.no_grad()
def draw_sheet(pipeline: Any, path: Path, **settings: float) -> None:
    """Draw the validation prompts with one seed each, and write the prompts next to the picture."""
    prompts = validation_prompts()
    seeds = [torch.Generator().manual_seed(i) for i in range(len(prompts))]
    images = pipeline(
        prompts, num_inference_steps=25, generator=seeds, output_type="np", **settings
    ).images
    save_sheet(to_model(torch.from_numpy((images * 255).round().astype(np.uint8))), path, columns=6)
    path.with_suffix(".txt").write_text("\n".join(prompts) + "\n")


def main() -> None:
    options = arguments(__doc__, steps=5500, vae=True)
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
