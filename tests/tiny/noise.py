"""Tiny pipelines of a noise schedule: Stable Diffusion, SDXL, PixArt-Sigma."""

from __future__ import annotations

from typing import Any

from tests.tiny.encoders import clip_encoder, clip_tokenizer, t5_encoder, t5_tokenizer
from tests.tiny.parts import NOISE, kl_vae, sharp, unet


def _stable_diffusion(vae: Any, scheduler: Any) -> Any:
    from diffusers import StableDiffusionPipeline

    tokenizer = clip_tokenizer()
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=clip_encoder(tokenizer),
        tokenizer=tokenizer,
        unet=sharp(unet()),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def ddim() -> Any:
    """AutoencoderTiny, DDIM, v-prediction, zero terminal SNR."""
    from diffusers import AutoencoderTiny, DDIMScheduler

    vae = AutoencoderTiny(
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
        scaling_factor=0.7,
    )
    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        rescale_betas_zero_snr=True,
        clip_sample=False,
        steps_offset=1,
    )
    return _stable_diffusion(vae, scheduler)


def pndm() -> Any:
    """AutoencoderKL, Stable Diffusion 1.x's own PNDM, epsilon."""
    from diffusers import PNDMScheduler

    scheduler = PNDMScheduler(**NOISE, skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1)
    return _stable_diffusion(kl_vae(), scheduler)


def xl() -> Any:
    """Two text encoders, SDXL's own Euler, epsilon."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

    tokenizer = clip_tokenizer()
    denoiser = unet(
        cross_attention_dim=64,
        attention_head_dim=(2, 4),
        transformer_layers_per_block=(1, 2),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 24,
    )
    return StableDiffusionXLPipeline(
        vae=kl_vae(),
        text_encoder=clip_encoder(tokenizer),
        text_encoder_2=clip_encoder(tokenizer, projection_dim=24),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=sharp(denoiser),
        scheduler=EulerDiscreteScheduler(**NOISE, steps_offset=1),
        add_watermarker=False,
    )


def pixart() -> Any:
    from diffusers import DPMSolverMultistepScheduler, PixArtSigmaPipeline, PixArtTransformer2DModel

    tokenizer = t5_tokenizer()
    transformer = PixArtTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        cross_attention_dim=16,
        sample_size=16,
        caption_channels=32,
        norm_num_groups=8,
    )
    return PixArtSigmaPipeline(
        tokenizer=tokenizer,
        text_encoder=t5_encoder(tokenizer, 32),
        vae=kl_vae(),
        transformer=sharp(transformer, ("attn2.to_q", "caption_projection")),
        scheduler=DPMSolverMultistepScheduler(**NOISE),
    )
