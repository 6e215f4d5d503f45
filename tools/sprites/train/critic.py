"""Trains the critic on clean drawings and on spoiled and half-formed ones.

`python -m promptprobe.tools.sprites.train.critic --out DIR` (a few minutes on two CPU cores). The
label follows visible damage: one minus the share of the drawing's ink that is wrong. An earlier
critic was trained on the amount of noise instead, and mistook clean drawings for noisy ones,
because a little noise is invisible.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, binary_cross_entropy_with_logits, relu

from promptprobe.tools.sprites import PIPELINE
from promptprobe.tools.sprites.judges.critic import Critic
from promptprobe.tools.sprites.language import word
from promptprobe.tools.sprites.train.data import batch
from promptprobe.tools.sprites.train.diffusion import build_scheduler, tokenize
from promptprobe.tools.sprites.train.loop import arguments, fit
from promptprobe.tools.sprites.world import Scene

BATCH = 48
UNSEEN = 0.06
"""Differences up to this, out of a range of 2, are invisible."""
FORMING = 700
"""Of 1000 timesteps, the first at which a picture is half-formed; sigma is above 1.4 from here."""
GROUND = 4
"""Side in pixels of the corner that shows the plain ground."""


def quality(spoiled: Tensor, clean: Tensor) -> Tensor:
    """One minus the share of ink that is wrong, [batch]; 0 if as much is wrong as was drawn."""
    ground = clean[:, :, :GROUND, :GROUND].amax((2, 3), keepdim=True)
    ink = (clean - ground).abs().mean(1).sum((1, 2))
    wrong = relu((spoiled - clean).abs() - UNSEEN).mean(1).sum((1, 2))
    return (1 - wrong / ink.clamp_min(1.0)).clamp(0, 1)


@torch.no_grad()
def lesson(pipeline: StableDiffusionPipeline, step: int) -> tuple[Tensor, Tensor]:
    """Pictures [BATCH, 3, 64, 64] and their quality [BATCH]: half of them half-formed, a quarter
    blurred, noisy or ghosted, a quarter as drawn or as reconstructed by the autoencoder."""
    clean, _, chosen = batch(step, BATCH)
    generator = torch.Generator().manual_seed(step)
    half, quarter = BATCH // 2, BATCH // 4
    images = clean.clone()
    images[:half] = half_formed(pipeline, clean[:half], chosen[:half], step)
    images[half : half + quarter] = spoiled(clean[half : half + quarter], generator)
    rest = slice(half + quarter, half + quarter + quarter // 2)
    images[rest] = pipeline.vae.decode(pipeline.vae.encode(clean[rest]).latents).sample
    images = images.clamp(-1, 1)
    return images, quality(images, clean)


def half_formed(
    pipeline: StableDiffusionPipeline, clean: Tensor, chosen: list[Scene], step: int
) -> Tensor:
    """Sprites' decoded x0 predictions from drawings with noise of random strength."""
    rng, scheduler = np.random.default_rng([step, 21]), build_scheduler()
    generator = torch.Generator().manual_seed(step)
    tokens = tokenize(pipeline.tokenizer, [word(scene, rng, "plain") for scene in chosen])
    latents = pipeline.vae.encode(clean).latents * pipeline.vae.config.scaling_factor
    noise = torch.randn(latents.shape, generator=generator)
    t = torch.randint(FORMING, 1000, (len(latents),), generator=generator)
    noisy = scheduler.add_noise(latents, noise, t)
    embeddings = pipeline.text_encoder(tokens).last_hidden_state
    velocity = pipeline.unet(noisy, t, encoder_hidden_states=embeddings).sample
    kept = scheduler.alphas_cumprod[t][:, None, None, None]
    x0 = kept.sqrt() * noisy - (1 - kept).sqrt() * velocity
    decoded: Tensor = pipeline.vae.decode(x0 / pipeline.vae.config.scaling_factor).sample
    return decoded


def spoiled(clean: Tensor, generator: torch.Generator) -> Tensor:
    """Blur a third, add noise to a third, blend a third with other drawings, at random strength."""
    third = len(clean) // 3
    strength = torch.rand(len(clean), 1, 1, 1, generator=generator)
    blurred = avg_pool2d(clean, 5, 1, 2, count_include_pad=False)
    noisy = clean + 0.4 * torch.randn(clean.shape, generator=generator)
    other = torch.cat([blurred[:third], noisy[third : 2 * third], clean.roll(1, 0)[2 * third :]])
    return torch.lerp(clean, other, strength)


def loss(pipeline: StableDiffusionPipeline, model: nn.Module, step: int) -> Tensor:
    images, wanted = lesson(pipeline, step)
    return binary_cross_entropy_with_logits(model(images), wanted)


def main() -> None:
    options = arguments(__doc__, steps=600)
    pipeline = StableDiffusionPipeline.from_pretrained(PIPELINE, use_safetensors=True)
    model = fit(
        Critic(), partial(loss, pipeline), steps=options.steps, lr=2e-3, out=options.out, ema=0.99
    )
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, options.out / "critic.safetensors")


if __name__ == "__main__":
    main()
