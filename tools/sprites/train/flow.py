"""Trains Sprites-flow, the second image model: joint attention and flow matching.

`python -m promptprobe.tools.sprites.train.flow --out DIR` (about 55 minutes on two Xeon cores). It
has the same world, language and autoencoder as Sprites, in a `ZImagePipeline`, the smallest class
with joint attention of text and image, since one set of weights serves both. A middle block is also
trained to predict which noun is where. As with REPA (Yu et al., arXiv 2410.06940), which aligns
such a block with a vision network, this teaches the transformer what its own loss hardly does:
here, nouns.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderTiny,
    FlowMatchEulerDiscreteScheduler,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from einops import rearrange
from torch import Tensor, nn
from transformers import CLIPTokenizer, Qwen3Config, Qwen3Model

from promptprobe.tools.sprites import PIPELINE
from promptprobe.tools.sprites.draw import SIZE
from promptprobe.tools.sprites.train.data import FIRST, MIX, batch
from promptprobe.tools.sprites.train.detector import centre_loss, targets
from promptprobe.tools.sprites.train.diffusion import (
    BATCH,
    PLAIN,
    SHIFT,
    captioned,
    draw_sheet,
    draw_times,
)
from promptprobe.tools.sprites.train.loop import arguments, fit
from promptprobe.tools.sprites.train.tokenizer import build_tokenizer
from promptprobe.tools.sprites.world import NOUNS

TEXT, WIDTH, HEADS = 128, 192, 4
SIMPLE = 200
"""The first SIMPLE batches show single objects with plain captions."""
NAMING, NAMED = 0.3, 2
"""Weight of the loss of nouns, and the block whose tokens predict them."""
SIDE, PATCH = 8, 2
"""Tokens along a side of the picture, and cells of the detector along a side of a token."""


class Denoiser(nn.Module):
    """The two networks that are trained together, and a head that is used only in training."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.text_encoder = Qwen3Model(
            Qwen3Config(
                vocab_size=len(tokenizer),
                hidden_size=TEXT,
                intermediate_size=3 * TEXT,
                num_hidden_layers=3,  # the pipeline reads the last but one
                num_attention_heads=4,
                num_key_value_heads=4,
                head_dim=TEXT // 4,
                max_position_embeddings=512,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
            )
        )
        self.transformer = ZImageTransformer2DModel(
            in_channels=4,
            dim=WIDTH,
            n_layers=6,
            n_refiner_layers=1,
            n_heads=HEADS,
            n_kv_heads=HEADS,
            cap_feat_dim=TEXT,
            axes_dims=[16, 16, 16],
            axes_lens=[512, 64, 64],
        )
        for block in (*self.transformer.noise_refiner, *self.transformer.layers):
            _zero(block.adaLN_modulation[0])  # each block starts as the identity (DiT, 2212.09748)
        _zero(self.transformer.all_final_layer["2-1"].linear)
        self.names = nn.Linear(WIDTH, PATCH**2 * len(NOUNS))
        nn.init.constant_(self.names.bias, -4.0)  # most cells are empty

    def forward(self, noisy: Tensor, left: Tensor, tokens: Any) -> tuple[Tensor, Tensor]:
        """x0 minus noise, and logits of nouns on the detector's cells, [batch, noun, row, col].

        `left` is the share of noise, [batch].
        """
        rows = self.text_encoder(**tokens, output_hidden_states=True).hidden_states[-2]
        embeddings = [
            row[real.bool()] for row, real in zip(rows, tokens.attention_mask, strict=True)
        ]
        images, middle = list(noisy.unsqueeze(2).unbind(0)), []
        hook = self.transformer.layers[NAMED].register_forward_hook(
            lambda _module, _given, tokens: middle.append(tokens)
        )
        velocity = self.transformer(images, 1 - left, embeddings, return_dict=False)[0]
        hook.remove()
        names = rearrange(
            self.names(middle[0][:, : SIDE**2]),
            "b (row col) (noun r c) -> b noun (row r) (col c)",
            row=SIDE, r=PATCH, c=PATCH,
        )  # fmt: skip
        return torch.stack(list(velocity)).squeeze(2), names

    def hidden(self) -> list[nn.Parameter]:
        """The hidden matrices: all but those of embeddings and outputs."""
        outer = ("embed", "names", "final_layer")
        return [
            weight
            for name, weight in self.named_parameters()
            if weight.ndim == 2 and not any(part in name for part in outer)
        ]

    def compile_blocks(self) -> None:
        """Compile the blocks, except the one with a hook: takes a minute, then a third faster."""
        blocks = self.transformer
        for block in (*blocks.noise_refiner, *blocks.context_refiner, *blocks.layers):
            if block is not blocks.layers[NAMED]:
                block.compile()


def _zero(layer: nn.Linear) -> None:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)


def loss(
    vae: AutoencoderTiny,
    tokenizer: CLIPTokenizer,
    model: nn.Module,
    step: int,
) -> Tensor:
    """Loss of the velocity and of the nouns."""
    simple = step < SIMPLE
    images, placed, chosen = batch(step, BATCH, FIRST if simple else MIX)
    captions = captioned(chosen, np.random.default_rng([step, 12]), simple)
    generator = torch.Generator().manual_seed(step)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        latents = vae.encode(images).latents.float() * vae.config.scaling_factor
    noise = torch.randn(latents.shape, generator=generator)
    t = draw_times(generator)
    left = flow_of(t)[:, None, None, None]
    noisy = (1 - left) * latents + left * noise
    with torch.autocast("cpu", torch.bfloat16):
        velocity, names = model(
            noisy, left.flatten(), tokenizer(captions, padding=True, return_tensors="pt")
        )
    error = (velocity.float() - (latents - noise)).square().mean((1, 2, 3))
    return (weigh(left.flatten()) * error).mean() + NAMING * centre_loss(
        names.float(), targets(placed)[0]
    )


def flow_of(t: Tensor) -> Tensor:
    """Share of noise in (0, 1] with the same signal-to-noise ratio as Sprites' times 0 .. 999."""
    share = (t + 1) / 1000
    return SHIFT * share / (1 - share + SHIFT * share)


def weigh(left: Tensor) -> Tensor:
    """Weight of the error as for Sprites: the inverse of x0's error at this share of noise."""
    return left.square() * (1 + (PLAIN * (1 - left) / left).square()).sqrt()


def assemble(vae: AutoencoderTiny, tokenizer: CLIPTokenizer, model: nn.Module) -> ZImagePipeline:
    """The networks as a `ZImagePipeline`."""
    pipeline = ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=SHIFT),
        vae=vae,
        text_encoder=model.text_encoder,
        tokenizer=tokenizer,
        transformer=model.transformer,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def sheet(vae: AutoencoderTiny, tokenizer: CLIPTokenizer, model: nn.Module, path: Path) -> None:
    """Draw samples of the current model."""
    draw_sheet(assemble(vae, tokenizer, model), path, height=SIZE, width=SIZE, guidance_scale=1.0)


def flow_tokenizer() -> CLIPTokenizer:
    """Sprites' tokenizer, with a chat template that is only the prompt."""
    tokenizer = build_tokenizer()
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    return tokenizer


def main() -> None:
    options = arguments(__doc__, steps=8000)
    vae = AutoencoderTiny.from_pretrained(PIPELINE / "vae").eval().requires_grad_(False)
    tokenizer = flow_tokenizer()
    denoiser = Denoiser(tokenizer)
    denoiser.compile_blocks()
    model = fit(
        denoiser,
        partial(loss, vae, tokenizer),
        steps=options.steps,
        lr=1e-3,
        out=options.out,
        sheet=partial(sheet, vae, tokenizer),
        decay=0.4,
        hidden=denoiser.hidden(),
    )
    pipeline = assemble(vae, tokenizer, model)
    pipeline.transformer.half()
    pipeline.text_encoder.half()
    pipeline.save_pretrained(options.out / "pipeline")


if __name__ == "__main__":
    main()
