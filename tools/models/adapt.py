"""Adapts a loaded pipeline: sets its scheduler, adds LoRA, and offloads it between uses.

Only a pipeline that we load is changed, never one that the caller passed. Like other weights, LoRA
files are not read as pickle.
"""

from __future__ import annotations

import importlib
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

from promptprobe.tools.models.hub import hub_file, lora_file
from promptprobe.tools.models.loading import fingerprint, quiet_loading
from promptprobe.tools.records import Generation, lora_of

HOW = {
    "scheduler": "set pipeline.scheduler",
    "lora": "call pipeline.load_lora_weights",
    "offload": "call pipeline.enable_model_cpu_offload",
}
"""What the caller does instead with a pipeline that is passed."""


def check_untouched(generation: Generation) -> None:
    """Raise ValueError if the settings would change a pipeline that the caller passed."""
    for name, instead in HOW.items():
        if getattr(generation, name):
            raise ValueError(
                f"a pipeline that is passed is not changed, but {name} was given: "
                f"{instead} before you pass it, and leave {name} out"
            )


def located(generation: Generation, device: str) -> Generation:
    """The settings with full paths of LoRA files, so that a run can resume from any folder.

    Raises:
        ValueError: a LoRA file is missing, or there is no GPU to offload from.
        ModuleNotFoundError: a LoRA was given, but peft is not installed.
    """
    if generation.offload and device == "cpu":
        raise ValueError(
            "offload keeps parts of the model off the GPU while they are not needed, and the "
            "device here is cpu: leave it out"
        )
    if generation.lora:
        _check_peft()
    return generation.model_copy(update={"lora": tuple(map(_located, generation.lora))})


def _check_peft() -> None:
    try:
        importlib.import_module("peft")
    except ModuleNotFoundError as error:
        missing = "LoRA needs peft: pip install 'promptprobe[lora]'"
        raise ModuleNotFoundError(missing, name="peft") from error


def _located(lora: str) -> str:
    source, weight = lora_of(lora)
    path = Path(source)
    there = _exists(path)
    if there and path.is_file() and path.suffix != ".safetensors":
        raise ValueError(f"expected a LoRA as .safetensors, since no pickle is read; got {source}")
    if there:
        source = str(path.resolve())
    elif source.startswith(("/", "./", "../", "~")) or (
        path.suffix == ".safetensors" and not hub_file(source)[1]
    ):
        raise ValueError(f"expected the file, the folder or the hub id of a LoRA, got {source!r}")
    return source if weight == 1 else f"{source}:{weight:g}"


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # too long for a path
        return False


def identity(generation: Generation) -> Hashable:
    """The settings that make pipelines with the same weights differ, as a cache key."""
    loras = tuple((lora, fingerprint(lora_of(lora)[0])) for lora in generation.lora)
    return generation.scheduler, generation.offload, loras


def adapted(pipeline: Any, generation: Generation, device: str) -> Any:
    """Apply the settings to a pipeline that was just loaded, and move it to its device.

    Raises:
        ValueError: a LoRA cannot be read, or was made for another kind of model.
    """
    from promptprobe.probe.families.schedulers import exchanged

    if generation.scheduler not in (None, type(pipeline.scheduler).__name__):
        pipeline.scheduler = exchanged(pipeline.scheduler, generation.scheduler)
    if generation.lora:
        _add(pipeline, [lora_of(lora) for lora in generation.lora])
    if generation.offload:
        pipeline.enable_model_cpu_offload(device=device)
        return pipeline
    return pipeline.to(device)


def _add(pipeline: Any, loras: Sequence[tuple[str, float]]) -> None:
    kind = type(pipeline).__name__
    if not hasattr(pipeline, "load_lora_weights"):
        raise ValueError(f"diffusers knows no LoRA for a {kind}: leave lora out")
    names = [f"lora_{place}" for place in range(len(loras))]
    for name, (source, _) in zip(names, loras, strict=True):
        with quiet_loading():
            file = lora_file(source)
        try:
            with quiet_loading():
                pipeline.load_lora_weights(
                    str(file.parent), weight_name=file.name, adapter_name=name, use_safetensors=True
                )
        except Exception as error:  # a broken file can raise anything
            raise ValueError(
                f"the LoRA {source} did not load into a {kind}: {type(error).__name__}: "
                f"{str(error)[:400]}. Expected the .safetensors of a LoRA made for this model"
            ) from error
        if not any(name in of_part for of_part in pipeline.get_list_adapters().values()):
            raise ValueError(f"the LoRA {source} has no weights that fit a {kind}")
    pipeline.set_adapters(names, [weight for _, weight in loras])
