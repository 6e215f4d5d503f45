"""Opens a model that can be probed, from a built-in name, a folder, a hub id or an object.

Weights are read as safetensors only, and no code that comes with a model is run.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from promptprobe.probe.families import KNOWN_AS, check_known, family_of
from promptprobe.tools.device import DEVICE, check_memory
from promptprobe.tools.models.adapt import adapted, check_untouched, identity, located
from promptprobe.tools.models.built_in import DEFAULT_MODEL, PLUGINS, BuiltIn, built_in
from promptprobe.tools.models.hub import ask_hub, is_folder, is_path
from promptprobe.tools.models.loading import (
    MOST_IDLE,
    Shared,
    fingerprint,
    quiet_loading,
    weights_size,
)
from promptprobe.tools.nearest import did_you_mean, folders_beside, nearest
from promptprobe.tools.records import IN_MEMORY, Generation
from promptprobe.tools.scorers.function import source_of
from promptprobe.tools.scorers.scorer import Scorer, open_judge, open_judges, open_scorer
from promptprobe.tools.scorers.table import DEFAULT_CLIP, Spec

if TYPE_CHECKING:
    from promptprobe.probe.families.family import Family
    from promptprobe.tools.toolbox import Toolbox

DEFAULTS = Generation()
INDEX = "model_index.json"
SINGLE_FILES = (".safetensors", ".ckpt", ".gguf", ".pt", ".bin")
SURELY = 0.8
"""If a name without an owner is this similar to a known one, the hub is not asked for it."""
VARIANT = "fp16"
"""The variant in which diffusers models come besides full precision."""
MADE_FOR_FLOAT16 = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")
"""Other pipelines overflow in float16; they were made for bfloat16."""
LARGEST_SIDE = 8
"""Maximum side of a picture, as a multiple of the model's own size; beyond, one image takes
gigabytes even on a small model."""
HELP = (
    f"give {' or '.join(PLUGINS)} (built in), a folder in diffusers' format, or the Hugging "
    f"Face hub id of a {KNOWN_AS} pipeline"
)


_MODELS: Shared[Any] = Shared(lambda family: weights_size(family.pipeline), MOST_IDLE)
_SCORERS: Shared[Scorer] = Shared(lambda scorer: 1, 3)
"""Four of these are kept, which usually covers a run's scorer and judges."""


@dataclass(frozen=True)
class Model:
    """A loaded pipeline, its family, and its complete settings."""

    name: str
    """A built-in model's name, the folder, the hub id, or `IN_MEMORY`."""
    pipeline: str
    """The pipeline's class name."""
    family: Family
    generation: Generation
    """The settings, with the model's own defaults filled in."""

    @property
    def built_in(self) -> BuiltIn | None:
        """The record of a built-in model; None for all others."""
        return built_in(self.name)


def open_toolbox(
    model: str | Path | Any = DEFAULT_MODEL,
    generation: Generation = DEFAULTS,
    scorer: Spec | Sequence[Spec] | None = None,
    probe: str | Path | None = None,
    judges: Sequence[Spec] = (),
) -> Toolbox:
    """The agent's tools for a model.

    Args:
        model: name of a built-in model, a local folder, a hub id, or a loaded pipeline.
        generation: how images are made; a field that is None takes the model's default.
        scorer: one or more judges that select; None takes a built-in model's own, and a CLIP for
            others.
        probe: folder or hub id of a trained probe, or a built-in model's name for its own; None
            takes the one shipped with the model.
        judges: judges that only grade; none takes a built-in model's own.

    Raises:
        ValueError: unknown or unloadable model, scorer or judge, two judges with one name, unknown
            probe, or settings that the model cannot work with.
    """
    from promptprobe.tools.models.probes import locate_probe
    from promptprobe.tools.toolbox import Toolbox

    located = locate_probe(probe) if probe else None
    with DEVICE:
        opened = open_model(model, generation)
        device = opened.generation.device or "cpu"
        own = opened.built_in
        shipped = own.probe if own else None
        return Toolbox(
            opened,
            open_scorer(scorer or (own.scorer if own else DEFAULT_CLIP), device, _shared_judge),
            open_judges(judges or ((own.judge,) if own else ()), device, _shared_judge),
            located or (shipped if shipped and shipped.is_dir() else None),
        )


def open_model(spec: str | Path | Any = DEFAULT_MODEL, generation: Generation = DEFAULTS) -> Model:
    """Load a model, or reuse one that is open, and fill in its defaults.

    Raises:
        ValueError: see `open_toolbox`.
    """
    if isinstance(spec, (str, Path)):
        name, source = _located(str(spec))
        class_name = _class_name(source)
        check_known(class_name, source)
        device, dtype = _placement(generation, class_name)
        generation = located(generation, device)
        family = _MODELS.get(
            (fingerprint(source), device, dtype, identity(generation)),
            lambda: _family(name, adapted(_load(source, device, dtype), generation, device)),
        )
    else:
        name, class_name = IN_MEMORY, type(spec).__name__
        check_known(class_name, "the model that was passed")
        check_untouched(generation)
        device, dtype = _placement_of(spec, generation)
        with DEVICE:
            family = _family(name, spec)
    used = _filled(generation, name, family, device, dtype)
    assert used.width and used.height, "filled in"
    check_memory(family.pipeline, used.width, used.height, device)
    return Model(name, class_name, family, used)


def _family(name: str, pipeline: Any) -> Any:
    try:
        return family_of(pipeline)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} cannot be probed: {error}") from error


def _shared_judge(spec: Spec, device: str) -> Scorer:
    if not isinstance(spec, str):
        return open_judge(spec, device)
    key = spec, fingerprint(source_of(spec)), device
    return _SCORERS.get(key, lambda: open_judge(spec, device))


# -- finding and loading -----------------------------------------------------------------------


def _located(spec: str) -> tuple[str, str]:
    """The model's name, and the folder or hub id to load."""
    if not spec.strip():
        raise ValueError(f"the model's name is empty; {HELP}")
    if own := built_in(spec):
        folder = own.pipeline
        if not (folder / INDEX).is_file():
            raise ValueError(
                f"the weights of the built-in model are missing: expected a diffusers folder at "
                f"{folder}. Install promptprobe from a wheel"
            )
        return spec, str(folder)
    if is_folder(spec):
        return str(Path(spec).resolve()), str(Path(spec).resolve())
    if Path(spec).suffix in SINGLE_FILES or is_path(spec):
        raise ValueError(_no_folder(spec))
    known = [*PLUGINS, *folders_beside(spec)]
    if "/" not in spec and (meant := nearest(spec, known, SURELY)):  # without asking the hub
        raise ValueError(f"unknown model {spec[:200]!r} (did you mean {meant!r}?); {HELP}")
    return spec, spec


def _no_folder(spec: str) -> str:
    """Why a path is not a model, and what to do."""
    name = spec[:200]
    try:
        exists = Path(spec).is_file()
    except (OSError, ValueError):
        exists = False
    if not exists:
        meant = did_you_mean(spec, folders_beside(spec))
        return f"unknown model {name!r}{meant}: there is no such folder; {HELP}"
    return (
        f"{name} is a single file, which does not say which pipeline it belongs to: load it with "
        f"pipeline = StableDiffusionXLPipeline.from_single_file({name!r}), or the class that it "
        "was made for, and pass that as the model in Python, or pipeline.save_pretrained(FOLDER) "
        "and give the folder"
    )


def _class_name(source: str) -> str:
    """The pipeline's class according to `model_index.json` in the folder or on the hub."""
    if is_folder(source):
        path = Path(source) / INDEX
        if not path.is_file():
            raise ValueError(f"{source} has no model_index.json: not a diffusers folder; {HELP}")
    else:
        path = _from_hub(source)
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as JSON: {error}") from error
    return str(index.get("_class_name")) if isinstance(index, dict) else str(type(index))


def _from_hub(repository: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        with quiet_loading():
            ask_hub("the model", repository, INDEX)
            return Path(hf_hub_download(repository, INDEX))
    except HFValidationError as error:
        meant = did_you_mean(repository, [*PLUGINS, *folders_beside(repository)])
        raise ValueError(
            f"unknown model {repository[:200]!r}{meant}: no such folder, and not a hub id; {HELP}"
        ) from error
    except (HfHubHTTPError, OSError) as error:
        meant = did_you_mean(repository, [*PLUGINS, *folders_beside(repository)])
        first = str(error).partition(". ")[0]
        raise ValueError(
            f"unknown model {repository[:200]!r}{meant}: no such folder here, and the Hugging Face "
            f"hub did not give its model_index.json ({type(error).__name__}: {first[:200]}). "
            f"Check the spelling and the network, log in if the model is gated, or {HELP}"
        ) from error


def _load(source: str, device: str, dtype: str) -> Any:
    import torch

    try:
        with quiet_loading():
            from diffusers import DiffusionPipeline

            pipeline = DiffusionPipeline.from_pretrained(
                source,
                use_safetensors=True,
                dtype=getattr(torch, dtype),
                variant=VARIANT if _has_only_variant(source) else None,
            )
    except Exception as error:  # a broken folder can raise anything
        raise ValueError(
            f"the model {source} did not load: {type(error).__name__}: {str(error)[:400]}. "
            "Expected a complete folder in diffusers' format with weights as .safetensors "
            "(pickled .bin weights are not read)"
        ) from error
    if device == "cpu" and hasattr(pipeline, "unet"):
        # A quarter faster on a CPU, and the same except for rounding.
        pipeline.unet.to(memory_format=torch.channels_last)
    return pipeline


def _has_only_variant(source: str) -> bool:
    """Whether a folder only has weights of the fp16 variant, which diffusers must be told."""
    if not is_folder(source):
        return False
    weights = [path.name for path in Path(source).glob("*/*.safetensors")]
    return bool(weights) and all(f".{VARIANT}" in name for name in weights)


# -- settings ----------------------------------------------------------------------------------


def _placement(generation: Generation, class_name: str) -> tuple[str, str]:
    """Device and dtype: a GPU in half precision if there is one, otherwise the CPU in float32."""
    import torch

    device = generation.device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"device {device!r} cannot be used here ({str(error).splitlines()[0][:200]}); "
            'leave it out, or use "cpu"'
        ) from error
    half = "float16" if class_name in MADE_FOR_FLOAT16 else "bfloat16"
    return device, generation.dtype or (half if device.startswith("cuda") else "float32")


def _placement_of(pipeline: Any, generation: Generation) -> tuple[str, str]:
    """Device and dtype of a pipeline that the caller passed, which is not moved."""
    denoiser = pipeline.unet if hasattr(pipeline, "unet") else pipeline.transformer
    # An offloaded pipeline runs on another device than its weights rest on.
    device = str(pipeline._execution_device)
    dtype = str(denoiser.dtype).removeprefix("torch.")
    for name, wanted, actual in (
        ("device", generation.device, device),
        ("dtype", generation.dtype, dtype),
    ):
        if wanted and wanted != actual:
            raise ValueError(
                f"the pipeline that was passed has {name} {actual}, but {wanted} was requested; "
                f"move it first (pipeline.to), or leave {name} out"
            )
    return device, dtype


def _filled(
    generation: Generation, name: str, family: Family, device: str, dtype: str
) -> Generation:
    """Fill in the model's defaults; a dtype that cannot be requested, such as float8, becomes None.

    Raises:
        ValueError: the images are larger than LARGEST_SIDE allows; every door checks it here.
    """
    known = get_args(get_args(Generation.model_fields["dtype"].annotation)[0])
    own = built_in(name)
    height, width = (own.size, own.size) if own else family.default_size
    most = LARGEST_SIDE**2 * height * width
    wanted = (generation.height or height) * (generation.width or width)
    if wanted > most:
        raise ValueError(
            f"{name} draws {width} x {height} pixels by default, and at most {LARGEST_SIDE} times "
            f"as much per side: {most:,} pixels, got {wanted:,}. Give a smaller height and width"
        )
    default = own.guidance if own else family.default_guidance
    return Generation(
        steps=generation.steps,
        guidance=default if generation.guidance is None else generation.guidance,
        height=generation.height or height,
        width=generation.width or width,
        negative_prompt=generation.negative_prompt or "",
        dtype=dtype if dtype in known else None,
        device=device,
        scheduler=generation.scheduler,
        lora=generation.lora,
        offload=generation.offload,
        extra=generation.extra,
    )
