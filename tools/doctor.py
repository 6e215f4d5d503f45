"""Checks this machine, and whether a model, its scorer and its probe work on it.

Nothing is drawn or changed. The hub is only asked whether it answers; a hub model that is named is
downloaded, as in a run.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from pydantic import Field

from promptprobe.tools.records import Generation, Record

PACKAGES = ("promptprobe", "torch", "diffusers", "transformers", "langgraph", "openai", "pydantic")
EXTRAS = {
    "mcp": "mcp",
    "platformdirs": "mcp",
    "uvicorn": "mcp",
    "gradio": "ui",
    "pyarrow": "train",
    "matplotlib": "plots",
    "peft": "lora",
    "llguidance": "local-llm",
    "rapidocr": "ocr",
}
"""Modules that a plain install leaves out, and the extra that installs them."""
HUB_SECONDS = 3.0
CANNOT = (ValueError, OSError, RuntimeError, TypeError, ImportError)
"""Errors of opening a model, scorer or probe."""


class Finding(Record):
    """The result of one check."""

    name: str
    found: str = ""
    problem: str = Field("", description="what is wrong and what to do; empty if nothing is")


def look_at_machine() -> Iterator[Finding]:
    """Check versions, device, memory, extras and hub, which need no model."""
    yield Finding(name="python", found=f"{platform.python_version()} on {platform.platform()}")
    for name in PACKAGES:
        try:
            yield Finding(name=name, found=version(name))
        except PackageNotFoundError:
            yield Finding(name=name, problem=f"not installed: pip install {name}")
    yield Finding(name="device", found=_device())
    for extra in dict.fromkeys(EXTRAS.values()):
        modules = [module for module, brought_by in EXTRAS.items() if brought_by == extra]
        there = (
            "installed"
            if all(map(find_spec, modules))
            else f"no: pip install 'promptprobe[{extra}]'"
        )
        yield Finding(name=f"extra {extra}", found=there)
    yield _hub()


def look_at_model(
    spec: str, scorer: Sequence[str] | None, probe: str | None, generation: Generation
) -> Iterator[Finding]:
    """Check whether a model opens and its attention can be captured, with its scorer and probe.

    Args:
        spec: the model, as for `open_toolbox`.
        scorer: one or more; None: the model's own, or the default one.
        probe: a trained probe; None: the one shipped with the model.
        generation: how pictures would be made.
    """
    from promptprobe.tools.models.model import open_model, open_toolbox

    try:
        opened = open_model(spec, generation)
    except CANNOT as error:
        yield Finding(name="model", problem=str(error))
        return
    used = opened.generation
    yield Finding(
        name="model",
        found=f"{opened.pipeline} on {used.device} in {used.dtype}: {used.height} x {used.width} "
        f"pixels, {used.steps} steps, guidance {used.guidance:g}",
    )
    layers = len(opened.family.layers())
    yield Finding(name="self-check", found=f"{layers} attention layers equal a plain softmax")
    try:
        tools = open_toolbox(spec, used, scorer, probe)
    except CANNOT as error:
        yield Finding(name="scorer and probe", problem=str(error))
        return
    yield Finding(name="scorer", found=f"{tools.scorer_name} opens")
    yield Finding(name="probe", found="; ".join(tools.notes) or "fits the model and its settings")


def _device() -> str:
    import psutil
    import torch

    if torch.cuda.is_available():
        free, total = (amount / 2**30 for amount in torch.cuda.mem_get_info())
        return f"cuda, {torch.cuda.get_device_name()}: {free:.1f} of {total:.1f} GiB free"
    kind = "mps" if torch.backends.mps.is_available() else "cpu"
    memory = psutil.virtual_memory()
    free, total = memory.available / 2**30, memory.total / 2**30
    return f"{kind}, {torch.get_num_threads()} threads: {free:.1f} of {total:.1f} GiB free"


def _hub() -> Finding:
    """Whether the Hugging Face hub answers; not a problem if not, since models may be folders."""
    import httpx
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return Finding(name="hub", found="not asked: HF_HUB_OFFLINE is set")
    try:
        httpx.head(constants.ENDPOINT, timeout=HUB_SECONDS)
    except httpx.HTTPError as error:
        reason = f"{constants.ENDPOINT} does not answer ({type(error).__name__}): "
        return Finding(name="hub", found=f"{reason}give models and probes as folders")
    return Finding(name="hub", found=f"{constants.ENDPOINT} answers")
