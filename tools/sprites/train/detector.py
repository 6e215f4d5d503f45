"""Trains the detector on clean, blurred, noisy and autoencoded drawings, some of them malformed."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from diffusers import AutoencoderTiny
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy, l1_loss

from promptprobe.tools.sprites.draw import SIZE, Placed, draw, silhouette
from promptprobe.tools.sprites.judges.detector import CELL, Detector
from promptprobe.tools.sprites.train.data import sample_scenes, to_model
from promptprobe.tools.sprites.train.loop import arguments, fit
from promptprobe.tools.sprites.world import COLOURS, NOUNS

BATCH = 48
MALFORMED = 0.25
"""Share of pictures with an object that blends two nouns, or is half of one, and has no label."""


def spoil(image: np.ndarray, placed: list[Placed], rng: np.random.Generator) -> list[Placed]:
    """Replace one object by an unrecognizable one; returns the other objects."""
    victim = placed[rng.integers(len(placed))]
    size = round(victim.size)
    left, top = (
        int(np.clip(round(centre - size / 2), 0, SIZE - size)) for centre in (victim.x, victim.y)
    )
    patch = image[top : top + size, left : left + size].astype(np.float32)
    ground = image[0, 0].astype(np.float32)
    patch[:] = ground
    a, b = (silhouette(NOUNS[i], size) for i in rng.choice(len(NOUNS), 2, replace=False))
    style = rng.integers(3)
    if style == 0:
        alpha = np.where(np.arange(size)[:, None] < size / 2, a, b)
    elif style == 1:
        alpha = a * (np.arange(size) < rng.uniform(0.3, 0.55) * size)
    else:
        alpha = np.minimum(a, b) * rng.uniform(0.4, 1)
    colour = np.array(COLOURS[victim.colour])
    patch += alpha[..., None] * (colour - patch)
    image[top : top + size, left : left + size] = patch.clip(0, 255).round().astype(np.uint8)
    return [item for item in placed if item is not victim]


def batch(step: int) -> tuple[Tensor, list[list[Placed]]]:
    rng = np.random.default_rng([step, 7])
    images, truth = [], []
    for scene in sample_scenes(rng, BATCH):
        image, placed = draw(scene, int(rng.integers(2**52)))
        if rng.random() < MALFORMED:
            placed = spoil(image, placed, rng)
        images.append(image)
        truth.append(placed)
    return to_model(torch.from_numpy(np.stack(images))), truth


@torch.no_grad()
def degrade(images: Tensor, vae: AutoencoderTiny, step: int) -> Tensor:
    """Pass a third through the autoencoder, blur or add noise to a third, leave a third clean."""
    generator = torch.Generator().manual_seed(step)
    third = len(images) // 3
    latents = vae.encode(images[:third]).latents
    wobble = torch.rand(third, 1, 1, 1, generator=generator) * 0.3
    latents += wobble * torch.randn(latents.shape, generator=generator)
    images[:third] = vae.decode(latents).sample
    blurred = images[third : third + third // 2]
    images[third : third + third // 2] = avg_pool2d(blurred, 3, 1, 1, count_include_pad=False)
    noisy = images[third + third // 2 : 2 * third]
    noisy += 0.08 * torch.randn(noisy.shape, generator=generator)
    return images


def targets(truth: list[list[Placed]]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Heat maps [batch, noun, row, col], and the cell, colour and offset of each object."""
    side = SIZE // CELL
    heat = torch.zeros(len(truth), len(NOUNS), side, side)
    rows, cols = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    cells, colours, offsets = [], [], []
    for i, placed in enumerate(truth):
        for item in placed:
            x, y = item.x / CELL, item.y / CELL
            col, row = min(int(x), side - 1), min(int(y), side - 1)
            near = torch.exp(-((cols - col) ** 2 + (rows - row) ** 2) / 2.0)
            noun = NOUNS.index(item.noun)
            heat[i, noun] = torch.maximum(heat[i, noun], near)
            cells.append([i, row, col])
            colours.append(list(COLOURS).index(item.colour))
            offsets.append([x - col, y - row])
    shape = (-1, 3)
    return heat, torch.tensor(cells).view(shape), torch.tensor(colours), torch.tensor(offsets)


def centre_loss(nouns: Tensor, heat: Tensor) -> Tensor:
    """CenterNet's focal loss of logits [batch, noun, row, col], per object."""
    chance = nouns.sigmoid().clamp(1e-5, 1 - 1e-5)
    centre = heat == 1
    gain = torch.where(
        centre,
        (1 - chance).square() * chance.log(),
        (1 - heat) ** 4 * chance.square() * (1 - chance).log(),
    )
    return -gain.sum() / centre.sum()


def loss(vae: AutoencoderTiny, model: nn.Module, step: int) -> Tensor:
    images, truth = batch(step)
    heat, cells, colours, offsets = targets(truth)
    nouns, colour_logits, offset = model(degrade(images, vae, step).contiguous())
    i, row, col = cells.unbind(-1)
    return (
        centre_loss(nouns, heat)
        + cross_entropy(colour_logits[i, :, row, col], colours)
        + l1_loss(offset[i, :, row, col], offsets)
    )


def main() -> None:
    options = arguments(__doc__, steps=700, vae=True)
    vae = AutoencoderTiny.from_pretrained(options.vae).requires_grad_(False)
    model = fit(
        Detector(), partial(loss, vae), steps=options.steps, lr=2e-3, out=options.out, ema=0.99
    )
    save_file(model.state_dict(), options.out / "detector.safetensors")


if __name__ == "__main__":
    main()
