"""Trains a small CLIP of this world, and measures what it can tell apart.

The loss is contrastive as in CLIP (Radford et al. 2021), with minimally swapped captions as hard
negatives (NegCLIP, Yuksekgonul et al. 2023); without them such a model reads captions as bags of
words.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    CLIPTokenizer,
)

from promptprobe.tools.sprites.draw import SIZE, draw
from promptprobe.tools.sprites.language import word
from promptprobe.tools.sprites.train.data import sample_scenes, to_model
from promptprobe.tools.sprites.train.diffusion import tokenize
from promptprobe.tools.sprites.train.loop import arguments, fit
from promptprobe.tools.sprites.train.tokenizer import build_tokenizer
from promptprobe.tools.sprites.world import COLOURS, COUNTS, KINDS, NOUNS, Scene, scenes

BATCH = 48
WIDTH = 128


def build(tokenizer: CLIPTokenizer) -> CLIPModel:
    tower = {
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_attention_heads": 4,
        "projection_dim": WIDTH,
    }
    end = tokenizer.eos_token_id
    text = {
        **tower, "vocab_size": len(tokenizer), "num_hidden_layers": 3,
        "max_position_embeddings": 32,
        "bos_token_id": end - 1, "eos_token_id": end, "pad_token_id": end,
    }  # fmt: skip
    vision = {**tower, "num_hidden_layers": 4, "image_size": SIZE, "patch_size": 8}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=WIDTH))


def swaps(scene: Scene, rng: np.random.Generator) -> dict[str, Scene]:
    """Scenes that differ from this one in a single way, by the name of the change."""
    first, *rest = scene.things
    swapped = {}
    absent = [noun for noun in NOUNS if all(noun != thing.noun for thing in scene.things)]
    noun = str(rng.choice(absent))
    swapped["noun"] = replace(scene, things=(replace(first, noun=noun), *rest))
    if first.colour:
        used = [thing.colour for thing in scene.things]
        free = [colour for colour in COLOURS if colour not in used]
        swapped["colour"] = replace(
            scene, things=(replace(first, colour=str(rng.choice(free))), *rest)
        )
    if rest and first.colour and rest[0].colour:
        swapped["binding"] = replace(
            scene,
            things=(replace(first, colour=rest[0].colour), replace(rest[0], colour=first.colour)),
        )
    if first.count > 1:
        count = int(rng.choice([count for count in COUNTS if count != first.count]))
        swapped["count"] = replace(scene, things=(replace(first, count=count),))
    if scene.relation:
        swapped["relation"] = replace(scene, things=scene.things[::-1])
    return swapped


def examples(scene: Scene, rng: np.random.Generator) -> tuple[str, dict[str, str]]:
    """A caption and its swapped versions in the same wording."""
    wording = int(rng.integers(2**52))
    true = word(scene, np.random.default_rng(wording))
    return true, {
        name: word(changed, np.random.default_rng(wording))
        for name, changed in swaps(scene, rng).items()
    }


def loss(tokenizer: CLIPTokenizer, model: nn.Module, step: int) -> Tensor:
    """Contrast images with all captions of the batch and with their own two swapped captions."""
    assert isinstance(model, CLIPModel)
    rng = np.random.default_rng([step, 13])
    chosen = sample_scenes(rng, BATCH)
    images = np.stack([draw(scene, int(rng.integers(2**52)))[0] for scene in chosen])
    texts, wrong = [], []
    for scene in chosen:
        caption, changed = examples(scene, rng)
        texts.append(caption)
        names = list(changed)
        hardest = [name for name in names if name != "noun"] or names
        wrong += [changed[rng.choice(hardest)], changed[rng.choice(names)]]
    image, text = embed(model, tokenizer, to_model(torch.from_numpy(images)), texts + wrong)
    true, false = text[:BATCH], rearrange(text[BATCH:], "(b k) d -> b k d", k=2)
    scale = model.logit_scale.exp()
    logits = [scale * image @ true.T, scale * torch.einsum("bd,bkd->bk", image, false)]
    labels = torch.arange(BATCH)
    by_image = cross_entropy(torch.cat(logits, 1), labels)
    return by_image + cross_entropy(scale * true @ image.T, labels)


def embed(
    model: CLIPModel, tokenizer: CLIPTokenizer, images: Tensor, texts: list[str]
) -> tuple[Tensor, Tensor]:
    """Unit vectors of images and texts."""
    vision = model.vision_model(pixel_values=images).pooler_output
    text = model.text_model(input_ids=tokenize(tokenizer, texts)).pooler_output
    return (
        normalize(model.visual_projection(vision).float(), dim=-1),
        normalize(model.text_projection(text).float(), dim=-1),
    )


@torch.no_grad()
def tells_apart(model: CLIPModel, tokenizer: CLIPTokenizer, number: int) -> dict[str, float]:
    """Share of held-out pictures whose true caption beats the swapped one, by kind of swap."""
    rng = np.random.default_rng(17)
    wins: dict[str, list[bool]] = {}
    pool = [scene for kind in KINDS for scene in scenes(kind) if scene.split == "test"]
    for _ in range(number):
        scene = pool[rng.integers(len(pool))]
        true, changed = examples(scene, rng)
        image = to_model(torch.from_numpy(draw(scene, int(rng.integers(2**52)))[0][None]))
        vision, text = embed(model, tokenizer, image, [true, *changed.values()])
        value = (vision @ text.T)[0]
        for name, score in zip(changed, value[1:], strict=True):
            wins.setdefault(name, []).append(bool(value[0] > score))
    return {name: round(float(np.mean(won)), 4) for name, won in wins.items()}


def save(model: CLIPModel, tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Write a folder for `CLIPModel` and `CLIPProcessor`, with weights in half precision."""
    pixels = CLIPImageProcessor(
        size={"shortest_edge": SIZE}, crop_size=SIZE, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    CLIPProcessor(pixels, tokenizer).save_pretrained(folder)
    model.half().save_pretrained(folder)


def main() -> None:
    options = arguments(__doc__, steps=2500)
    tokenizer = build_tokenizer()
    model = fit(
        build(tokenizer), partial(loss, tokenizer), steps=options.steps, lr=1e-3, out=options.out,
        decay=0.3, ema=0.995,
    )  # fmt: skip
    assert isinstance(model, CLIPModel)
    figures = tells_apart(model, tokenizer, 600)
    save(model, tokenizer, options.out / "clip")
    (options.out / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
