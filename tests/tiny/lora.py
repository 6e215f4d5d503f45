"""A tiny random LoRA for a tiny pipeline, as its trainers write one."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def lora(model: Path, folder: Path, part: str = "unet", seed: int = 0) -> Path:
    """The file of a LoRA of rank 2 for a part of the pipeline in a folder: denoiser or encoder."""
    import torch
    from diffusers import DiffusionPipeline
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    pipeline: Any = DiffusionPipeline.from_pretrained(model, use_safetensors=True)
    layers = ["q_proj", "v_proj"] if part == "text_encoder" else ["to_q", "to_v", "proj_in"]
    module = getattr(pipeline, part)
    module.add_adapter(LoraConfig(r=2, target_modules=layers, init_lora_weights=False))
    weights = get_peft_model_state_dict(module, adapter_name="default")
    generator = torch.Generator().manual_seed(seed)
    noise = {name: torch.randn(old.shape, generator=generator) for name, old in weights.items()}
    name = f"{part}-{seed}.safetensors"
    pipeline.save_lora_weights(folder, weight_name=name, **{f"{part}_lora_layers": noise})
    return folder / name
