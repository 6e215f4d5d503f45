"""Finished pictures as PNG files that record how they were made and how to make them again.

The parameters are written in the form that the community's viewers read (the PNG text chunk
`parameters` of AUTOMATIC1111's web UI), so that a picture dropped there shows prompt and seed. It
needs only Pillow, because the doors use this module and have to start quickly.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from promptprobe.probe.files import replacing
from promptprobe.tools.models.built_in import built_in
from promptprobe.tools.models.hub import hub_file
from promptprobe.tools.records import IN_MEMORY, Candidate, Generation, lora_of

SAMPLERS = {
    "DDIMScheduler": "DDIM",
    "PNDMScheduler": "PLMS",
    "EulerDiscreteScheduler": "Euler",
    "EulerAncestralDiscreteScheduler": "Euler a",
    "DPMSolverMultistepScheduler": "DPM++ 2M",
    "HeunDiscreteScheduler": "Heun",
    "LMSDiscreteScheduler": "LMS",
    "UniPCMultistepScheduler": "UniPC",
}
"""The viewers' names of diffusers' schedulers; others keep their class name."""
OF_A_NOISE_SCHEDULE = (
    "StableDiffusionPipeline",
    "StableDiffusionXLPipeline",
    "PixArtSigmaPipeline",
)
"""All other pipelines use flow matching, which a scheduler's configuration must say."""
SCHEDULES = {
    "use_karras_sigmas": "Karras",
    "use_exponential_sigmas": "Exponential",
    "use_beta_sigmas": "Beta",
}
"""The viewers' names of the schedules in diffusers' configurations."""
EXACT = "promptprobe"
"""The text chunk with the exact values as JSON, which the viewers' form cannot express."""


def save_png(
    image: Image.Image,
    path: Path,
    candidate: Candidate,
    generation: Generation,
    sampler: str,
    model: str,
    schedule: Mapping[str, Any] | None = None,
) -> Path:
    """Write a picture with its parameters, atomically.

    Args:
        sampler: class name of the scheduler.
        schedule: the scheduler's configuration, from which its variant is read.

    Raises:
        OSError: the folder cannot be written; the message names it.
    """
    info = PngInfo()
    info.add_text("parameters", parameters(candidate, generation, sampler, model, schedule))
    info.add_itxt(EXACT, exact(candidate, generation, model))
    with replacing(path) as partial:
        image.save(partial, format="PNG", pnginfo=info)
    return path


def parameters(
    candidate: Candidate,
    generation: Generation,
    sampler: str,
    model: str,
    schedule: Mapping[str, Any] | None = None,
) -> str:
    """Prompt, negative prompt and settings as the viewers read them; see `save_png`.

    Line breaks have a meaning in that form, so every run of white space becomes one space. For CLIP
    and T5 this makes no difference; language models as text encoders do read line breaks, which the
    chunk EXACT keeps.
    """
    sampler, kind = _sampling(sampler, schedule or {})
    settings = {
        "Steps": str(generation.steps),
        "Sampler": sampler,
        "Schedule type": kind,
        "CFG scale": f"{generation.guidance:g}" if generation.guidance is not None else None,
        "Seed": str(candidate.seed),
        "Size": f"{generation.width}x{generation.height}" if generation.width else None,
        "Model": Path(model).name,  # a picture that is shared must not reveal a home folder
        "LoRA": " ".join(_shared_loras(generation)),
    }
    lines = [_one_line(candidate.prompt)]
    if generation.negative_prompt:
        lines.append(f"Negative prompt: {_one_line(generation.negative_prompt)}")
    lines.append(", ".join(f"{key}: {_quoted(value)}" for key, value in settings.items() if value))
    return "\n".join(lines)


def _sampling(scheduler: str, config: Mapping[str, Any]) -> tuple[str, str]:
    """The viewers' names of a scheduler and, if they have one, of its schedule."""
    sampler = SAMPLERS.get(scheduler, scheduler.removesuffix("Scheduler"))
    if scheduler == "DPMSolverMultistepScheduler" and config.get("solver_order") == 3:
        sampler = "DPM++ 3M"
    if str(config.get("algorithm_type")).startswith("sde"):
        sampler += " SDE"
    kinds = (kind for name, kind in SCHEDULES.items() if config.get(name))
    return sampler, next(kinds, "")


def exact(candidate: Candidate, generation: Generation, model: str) -> str:
    """Candidate, settings and model as one JSON object, with the prompt unchanged."""
    shared = generation.model_copy(update={"lora": _shared_loras(generation)})
    fields = candidate.model_dump() | {"generation": shared.model_dump(exclude_none=True)}
    return json.dumps(fields | {"model": Path(model).name})


def _shared_loras(generation: Generation) -> tuple[str, ...]:
    """LoRA names and weights, without their folders."""
    loras = map(lora_of, generation.lora)
    return tuple(f"{Path(source).name}:{weight:g}" for source, weight in loras)


def read_finished(path: Path, width: int, height: int) -> Image.Image:
    """The pixels of a picture that is said to be written by `save_png`; it is not trusted.

    Raises:
        ValueError: it is not a complete RGB PNG of this size; the message names it.
    """
    try:
        with Image.open(path, formats=["PNG"]) as image:
            if (image.mode, image.size) != ("RGB", (width, height)):
                raise ValueError(
                    f"expected RGB of {width}x{height} pixels, got {image.mode} of "
                    f"{image.width}x{image.height}"
                )
            image.load()
            return image.copy()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"the picture {path} cannot be used: {error}") from error


def thumbnail(path: Path, side: int = 256) -> bytes:
    """The picture as a PNG of at most `side` pixels; a tiny one is enlarged without smoothing."""
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    scale = side // max(image.size)
    if scale > 1:
        size = (image.width * scale, image.height * scale)
        image = image.resize(size, Image.Resampling.NEAREST)
    image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def snippet(candidate: Candidate, generation: Generation, model: str, pipeline: str) -> str:
    """Plain-diffusers Python that makes this picture again, as `picture.png`.

    Args:
        candidate: what to draw.
        generation: the settings used, with the model's defaults filled in (`Tools.settings_used`).
        model: a built-in model's name, a folder or a hub id (`Tools.model_name`).
        pipeline: class name of its pipeline, which determines names of arguments.
    """
    negative: str | None = generation.negative_prompt or None
    guidance, further = "guidance_scale", []
    if pipeline == "QwenImagePipeline":
        negative, guidance = negative or "", "true_cfg_scale"
    if pipeline in ("PixArtSigmaPipeline", "SanaPipeline"):
        negative, further = negative or "", ["    use_resolution_binning=False,"]
    if pipeline not in ("FluxPipeline", "Flux2KleinPipeline"):
        further.append(f"    negative_prompt={negative!r},")
    for name, value in (generation.extra.model_dump() if generation.extra else {}).items():
        if value is not None:
            further.append(f"    {name}={value},")
    lines = [
        "import torch",
        *_loading(generation, model),
        *_adapting(generation, pipeline),
        "picture = pipeline(",
        f"    prompt={candidate.prompt!r},",
        f"    num_inference_steps={generation.steps},",
        f"    {guidance}={generation.guidance},",
        *further,
        f"    height={generation.height},",
        f"    width={generation.width},",
        f'    generator=torch.Generator("cpu").manual_seed({candidate.seed}),',
        ").images[0]",
        'picture.save("picture.png")',
    ]
    return "\n".join(lines) + "\n"


def _loading(generation: Generation, model: str) -> list[str]:
    """The lines that load the pipeline."""
    if model == IN_MEMORY:
        return ["", "# `pipeline` is the object that you passed as the model."]
    if own := built_in(model):
        model = str(own.pipeline)
    return [
        "from diffusers import DiffusionPipeline",
        "",
        "pipeline = DiffusionPipeline.from_pretrained(",
        f"    {model!r}, use_safetensors=True, dtype=torch.{generation.dtype or 'float32'}",
        ")" if generation.offload else f").to({generation.device or 'cpu'!r})",
    ]


def _adapting(generation: Generation, pipeline: str) -> Iterator[str]:
    """The lines that set the scheduler, LoRA and offloading."""
    if name := generation.scheduler:
        yield f"from diffusers import {name}"
        yield ""
        yield "config = dict(pipeline.scheduler.config)"
        if pipeline not in OF_A_NOISE_SCHEDULE:
            yield 'shift = config.get("shift", config.get("flow_shift", 1.0))'
            yield 'config |= {"prediction_type": "flow_prediction", "use_flow_sigmas": True}'
            yield 'config |= {"shift": shift, "flow_shift": shift}'
        yield f"pipeline.scheduler = {name}.from_config(config)"
    names = [f"lora_{place}" for place in range(len(generation.lora))]
    weights = [lora_of(lora)[1] for lora in generation.lora]
    for name, lora in zip(names, generation.lora, strict=True):
        source = _lora_arguments(lora_of(lora)[0])
        yield f"pipeline.load_lora_weights({source}, adapter_name={name!r})"
    if names:
        yield f"pipeline.set_adapters({names!r}, {weights!r})"
    if generation.offload:
        yield f"pipeline.enable_model_cpu_offload(device={generation.device!r})"


def _lora_arguments(source: str) -> str:
    """Arguments for a file, a folder or a hub id, including the file in a hub repository."""
    repository, file = hub_file(source)
    if not file or Path(source).is_absolute():
        return repr(source)
    return f"{repository!r}, weight_name={file!r}"


def _one_line(text: str) -> str:
    """Replace white space and control characters by single spaces, lone surrogates by "?"."""
    printable = re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", text)
    return " ".join(printable.encode("utf-8", "replace").decode().split())


def _quoted(value: str) -> str:
    """Quote a value that contains a separator as JSON, as the web UI does."""
    return json.dumps(value) if re.search(r'[,:"\n]', value) else value
