"""What many tests share: tiny random Stable Diffusion pipelines, made from config, no download.

jaxtyping checks the annotated shapes of promptprobe.probe in every test. torch and diffusers load
with the first fixture that needs them.
"""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jaxtyping import install_import_hook

install_import_hook("promptprobe.probe", "beartype.beartype")

MERGED_WORDS = ("a", "of", "red", "blue", "green", "cat", "dog", "car", "left", "and", "photo")
"""Words that are one token; every other word falls into its letters."""
TOKEN_LIMIT = 24
OWN = ("requires_safety_checker", "force_zeros_for_empty_prompt")
"""What a pipeline is made with beside its parts."""


def _tokenizer() -> Any:
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    alphabet = sorted(ByteLevel.alphabet())
    tokens = [*alphabet, *(f"{letter}</w>" for letter in alphabet)]
    merges = []
    for word in MERGED_WORDS:
        pieces = [*word[:-1], f"{word[-1]}</w>"]
        while len(pieces) > 1:
            merges.append((pieces[0], pieces[1]))
            pieces[:2] = [pieces[0] + pieces[1]]
            tokens.append(pieces[0])
    tokens = [*dict.fromkeys(tokens), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    merges = list(dict.fromkeys(merges))
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=TOKEN_LIMIT)


def _text_encoder(tokenizer: Any, **options: Any) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=TOKEN_LIMIT,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **options,
    )
    return (CLIPTextModelWithProjection if options else CLIPTextModel)(config)


def _unet(**options: Any) -> Any:
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


def _sharp(unet: Any) -> Any:
    """Attention sharper than at random, so that prompts and places matter."""
    import torch

    with torch.no_grad():
        for name, parameter in unet.named_parameters():
            if "attn2" in name and parameter.ndim == 2:
                parameter.mul_(4)
    return unet


def _vae() -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
        norm_num_groups=4,
        latent_channels=4,
        sample_size=32,
    )


def _save(folder: Path, scheduler: Any, vae: Any) -> Path:
    from diffusers import StableDiffusionPipeline

    tokenizer = _tokenizer()
    unet = _sharp(_unet())
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=_text_encoder(tokenizer),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def ddim_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32 x 32 pixels, 16 x 16 latents, AutoencoderTiny, DDIM, v-prediction, zero terminal SNR."""
    import torch
    from diffusers import AutoencoderTiny, DDIMScheduler

    torch.manual_seed(0)
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
    return _save(tmp_path_factory.mktemp("models") / "tiny-ddim", scheduler, vae)


@pytest.fixture(scope="session")
def pndm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32 x 32 pixels, 16 x 16 latents, AutoencoderKL, Stable Diffusion 1.x's own PNDM, epsilon."""
    import torch
    from diffusers import PNDMScheduler

    torch.manual_seed(0)
    vae = _vae()
    scheduler = PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        skip_prk_steps=True,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    return _save(tmp_path_factory.mktemp("models") / "tiny-pndm", scheduler, vae)


@pytest.fixture(scope="session")
def xl_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32 x 32 pixels, two text encoders, SDXL's own Euler, epsilon."""
    import torch
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

    torch.manual_seed(0)
    tokenizer = _tokenizer()
    unet = _unet(
        cross_attention_dim=64,
        attention_head_dim=(2, 4),
        transformer_layers_per_block=(1, 2),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 24,
    )
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
    )
    pipeline = StableDiffusionXLPipeline(
        vae=_vae(),
        text_encoder=_text_encoder(tokenizer),
        text_encoder_2=_text_encoder(tokenizer, projection_dim=24),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=_sharp(unet),
        scheduler=scheduler,
        add_watermarker=False,
    )
    folder = tmp_path_factory.mktemp("models") / "tiny-xl"
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def clip_folder(ddim_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random CLIPModel with its processor, saved."""
    import torch
    from transformers import (
        CLIPConfig,
        CLIPImageProcessorPil,
        CLIPModel,
        CLIPProcessor,
        CLIPTokenizer,
    )

    tokenizer = CLIPTokenizer.from_pretrained(ddim_folder / "tokenizer")
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    config = CLIPConfig(
        text_config={
            **small,
            "num_attention_heads": 2,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 16,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
        },
        vision_config={**small, "num_attention_heads": 2, "image_size": 32, "patch_size": 8},
        projection_dim=8,
    )
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("clip")
    CLIPModel(config).save_pretrained(folder)
    images = CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    CLIPProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(folder)
    return folder


@cache
def _loaded(folder: Path) -> Any:
    from diffusers import DiffusionPipeline

    return DiffusionPipeline.from_pretrained(folder)


def _load(folder: Path) -> Any:
    """A copy of the test's own, which takes a tenth of the time of loading it again."""
    loaded = _loaded(folder)
    parts = {
        name: part if name.startswith("tokenizer") else copy.deepcopy(part)
        for name, part in loaded.components.items()
    }
    own = {name: loaded.config[name] for name in OWN if name in loaded.config}
    pipeline = type(loaded)(**parts, **own)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture
def ddim_pipeline(ddim_folder: Path) -> Any:
    """A fresh StableDiffusionPipeline of `ddim_folder`."""
    return _load(ddim_folder)


@pytest.fixture
def pndm_pipeline(pndm_folder: Path) -> Any:
    """A fresh StableDiffusionPipeline of `pndm_folder`."""
    return _load(pndm_folder)


@pytest.fixture
def xl_pipeline(xl_folder: Path) -> Any:
    """A fresh StableDiffusionXLPipeline of `xl_folder`."""
    return _load(xl_folder)


@pytest.fixture(params=["ddim", "pndm", "xl"])
def tiny_pipeline(request: pytest.FixtureRequest) -> Any:
    """Each of the three in turn."""
    return _load(request.getfixturevalue(f"{request.param}_folder"))
