"""The models of `eval overhead`: Sprites, and models with random weights, shaped like real ones.

Time and memory do not depend on the values of weights, so these are random and nothing is
downloaded; every width is the real one. On a CPU, models have fewer layers and pictures are
smaller, as each plan says; text encoders and VAEs are always tiny, with outputs of the right size.
torch and diffusers are imported when the first model is built.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promptprobe.tools.models.loading import quiet_loading
from promptprobe.tools.sprites import PIPELINE, PROBE

PROMPTS = (
    "an owl reading a book under a street lamp at night, oil painting",
    "two red foxes next to a frozen lake, mountains, soft morning light",
    "a glass teapot on a wooden table beside a blue vase of white tulips",
    "an old lighthouse above the waves, storm clouds, wide angle photograph",
)
SPRITES_PROMPTS = (
    "a red cat above a blue car",
    "three green birds",
    "a purple key to the left of a yellow star",
    "an orange fish and a blue tree",
)
TEXT = 77
"""Length of CLIP's token sequence."""


@dataclass(frozen=True)
class MeasurePlan:
    """How a shape is measured on one kind of device."""

    pixels: int
    """Height and width that the thresholds apply to."""
    larger: int
    """A larger height and width, to measure growth with the picture's size."""
    batch: int
    """Candidates in the batch that the thresholds apply to; a single one is measured too."""
    steps: int
    k: int
    """Number of the `steps` that are probed."""
    rounds: int
    full: bool
    """Whether the model has every layer of the real one."""
    dtype: str


@dataclass(frozen=True)
class SyntheticModel:
    """A kind of model, and how it is measured."""

    title: str
    pipeline: str
    """The pipeline's class name, as `probe.families.FAMILIES` has it."""
    make: Callable[[bool], Any]
    """Makes the pipeline, full or reduced; a denoiser without weights is on torch's meta device."""
    reduced: str
    """How a plan that is not full differs from the real model."""
    guidance: float
    cpu: MeasurePlan
    cuda: MeasurePlan
    prompts: tuple[str, ...] = PROMPTS
    probe: Path | None = None
    """The shipped probe, if there is one."""

    def plan(self, device: str) -> MeasurePlan:
        return self.cuda if device.startswith("cuda") else self.cpu


def build(shape: SyntheticModel, device: str) -> Any:
    """A pipeline on the device, as `tools.models` would have loaded it."""
    import torch

    plan = shape.plan(device)
    with quiet_loading():
        pipeline = shape.make(plan.full)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            # Not with diffusers' own `to`, which warns about modules that do not exist.
            torch.nn.Module.to(part, getattr(torch, plan.dtype)).eval().requires_grad_(False)
            if any(weight.is_meta for weight in part.parameters()):
                fill(part.to_empty(device=device))
            else:
                torch.nn.Module.to(part, device)
    if device == "cpu" and hasattr(pipeline, "unet"):
        pipeline.unet.to(memory_format=torch.channels_last)
    return pipeline


def sprites(full: bool) -> Any:
    """The shipped model, which is never reduced."""
    from diffusers import StableDiffusionPipeline

    return StableDiffusionPipeline.from_pretrained(PIPELINE, use_safetensors=True)


def sd15(full: bool) -> Any:
    """The UNet of Stable Diffusion 1.5."""
    import torch
    from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline, UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(
            sample_size=64, cross_attention_dim=768, layers_per_block=2 if full else 1
        )
    tokenizer = clip_tokenizer()
    return StableDiffusionPipeline(
        vae=vae(4),
        text_encoder=clip(tokenizer, 768),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=EulerDiscreteScheduler(steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sdxl(full: bool) -> Any:
    """The UNet of SDXL base."""
    import torch
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel

    down, up = "CrossAttnDownBlock2D", "CrossAttnUpBlock2D"
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            sample_size=128,
            block_out_channels=(320, 640, 1280),
            down_block_types=("DownBlock2D", down, down),
            up_block_types=(up, up, "UpBlock2D"),
            layers_per_block=2 if full else 1,
            transformer_layers_per_block=(1, 2, 10) if full else (1, 1, 2),
            attention_head_dim=(5, 10, 20),
            cross_attention_dim=2048,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        )
    tokenizer = clip_tokenizer()
    return StableDiffusionXLPipeline(
        vae=vae(4),
        text_encoder=clip(tokenizer, 768),
        text_encoder_2=clip(tokenizer, 1280, projection_dim=1280),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet,
        scheduler=EulerDiscreteScheduler(steps_offset=1),
        add_watermarker=False,
    )


def flux(full: bool) -> Any:
    """The transformer of FLUX.1-dev."""
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
    from transformers import T5Config, T5EncoderModel, T5Tokenizer

    double, single = (19, 38) if full else (1, 1)
    with torch.device("meta"):
        transformer = FluxTransformer2DModel(
            num_layers=double, num_single_layers=single, guidance_embeds=True
        )
    letters = [(letter, -3.0) for letter in "abcdefghijklmnopqrstuvwxyz,"]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0), *letters]
    pieced = T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=512)
    thin = T5Config(
        vocab_size=len(pieced), d_model=4096, d_kv=64, d_ff=64, num_layers=1, num_heads=1
    )
    tokenizer = clip_tokenizer()
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=vae(16),
        text_encoder=clip(tokenizer, 768),
        tokenizer=tokenizer,
        text_encoder_2=T5EncoderModel(thin),
        tokenizer_2=pieced,
        transformer=transformer,
    )


def fill(model: Any) -> None:
    """Fill in random weights in place, without a second copy of billions of them."""
    import torch

    generator = torch.Generator(model.device).manual_seed(0)
    for name, weight in model.named_parameters():
        if weight.ndim > 1:
            weight.normal_(std=0.02, generator=generator)
        else:
            weight.fill_(float(name.endswith("weight")))  # norms scale by one and shift by zero


def vae(channels: int) -> Any:
    """An eightfold VAE that is never run: overhead is measured before anything is decoded."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        latent_channels=channels,
        norm_num_groups=4,
        block_out_channels=(4,) * 4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )


def clip_tokenizer() -> Any:
    """Sprites' tokenizer with CLIP's length; it splits words of real prompts into a few tokens."""
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(PIPELINE / "tokenizer", model_max_length=TEXT)


def clip(tokenizer: Any, width: int, **projection: int) -> Any:
    """A text encoder of one thin layer."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=width // 64,
        max_position_embeddings=TEXT,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **projection,
    )
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config)


SHAPES: dict[str, SyntheticModel] = {
    "sprites": SyntheticModel(
        "Sprites, the built-in model",
        "StableDiffusionPipeline", sprites, "nothing",
        guidance=2.0, prompts=SPRITES_PROMPTS, probe=PROBE,
        cpu=MeasurePlan(64, 128, 16, steps=25, k=5, rounds=20, full=True, dtype="float32"),
        cuda=MeasurePlan(64, 128, 16, steps=25, k=5, rounds=20, full=True, dtype="float16"),
    ),
    "sd15": SyntheticModel(
        "the UNet of Stable Diffusion 1.5, random weights",
        "StableDiffusionPipeline", sd15,
        "one layer a block for two; 128 x 128 pixels for 512 x 512",
        guidance=7.5,
        cpu=MeasurePlan(128, 256, 16, steps=25, k=1, rounds=5, full=False, dtype="float32"),
        cuda=MeasurePlan(512, 1024, 4, steps=25, k=5, rounds=10, full=True, dtype="bfloat16"),
    ),
    "sdxl": SyntheticModel(
        "the UNet of SDXL, random weights",
        "StableDiffusionXLPipeline", sdxl,
        "one layer a block for two, with 1 and 2 transformers for 2 and 10; "
        "192 x 192 pixels for 1024 x 1024",
        guidance=5.0,
        cpu=MeasurePlan(192, 384, 16, steps=25, k=1, rounds=3, full=False, dtype="float32"),
        cuda=MeasurePlan(1024, 1536, 4, steps=25, k=5, rounds=10, full=True, dtype="bfloat16"),
    ),
    "flux": SyntheticModel(
        "the transformer of FLUX.1-dev, random weights",
        "FluxPipeline", flux,
        "one double and one single block for 19 and 38; 256 x 256 pixels for 1024 x 1024",
        guidance=3.5,
        cpu=MeasurePlan(256, 512, 16, steps=25, k=1, rounds=2, full=False, dtype="float32"),
        cuda=MeasurePlan(1024, 1536, 4, steps=25, k=5, rounds=10, full=True, dtype="bfloat16"),
    ),
}  # fmt: skip
