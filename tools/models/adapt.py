"""A pipeline as it was asked for: with another scheduler, with LoRA, and off the GPU between uses.

Only a pipeline that we load is changed; one that was handed over stays as it is. Of LoRA, too, no
pickle is read.
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
"""What to do with a pipeline that was handed over instead."""


def check_untouched(generation: Generation) -> None:
    """ValueError: something is to be changed of a pipeline that was handed over."""
    for name, instead in HOW.items():
        if getattr(generation, name):
            raise ValueError(
                f"the pipeline that was passed stays as it is, and {name} was asked for: "
                f"{instead} before you pass it, and leave {name} out"
            )


def located(generation: Generation, device: str) -> Generation:
    """The same, its files of LoRA by their full paths, so that a run goes on from any folder.

    Raises:
        ValueError: a file of LoRA is not there, or there is no GPU to offload from.
        ModuleNotFoundError: a LoRA without peft.
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
    """What tells pipelines of the same weights apart."""
    loras = tuple((lora, fingerprint(lora_of(lora)[0])) for lora in generation.lora)
    return generation.scheduler, generation.offload, loras


def adapted(pipeline: Any, generation: Generation, device: str) -> Any:
    """A pipeline that was just loaded, changed as asked for and on its device.

    Raises:
        ValueError: a LoRA that cannot be read, or that is of another kind of model.
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
        except Exception as error:  # what a file may hold fails in as many ways
            raise ValueError(
                f"the LoRA {source} did not load into a {kind}: {type(error).__name__}: "
                f"{str(error)[:400]}. Expected the .safetensors of a LoRA made for this model"
            ) from error
        if not any(name in of_part for of_part in pipeline.get_list_adapters().values()):
            raise ValueError(f"the LoRA {source} holds nothing that a {kind} has a place for")
    pipeline.set_adapters(names, [weight for _, weight in loras])
