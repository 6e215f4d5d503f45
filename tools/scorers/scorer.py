"""Judges of finished images: a built-in model's own, a CLIP, or the caller's own function.

A judge that fails leaves an image unscored, with the reason; it never yields a zero, which would
read as "this picture is bad".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from promptprobe.tools.models.built_in import BuiltIn, built_ins
from promptprobe.tools.models.quiet import quiet_loading
from promptprobe.tools.records import Score

Pictures = Sequence[Image.Image]
ScoreImages = Callable[[str, Pictures], list[Score]]
NO_SECOND_JUDGE = "no second judge for this model"
DEFAULT_CLIP = "clip:openai/clip-vit-base-patch32"
REASON_LIMIT = 300


@dataclass(frozen=True)
class Scorer:
    """A judge with a name. Calling it never raises: what fails is unscored and says why."""

    name: str
    score_images: ScoreImages

    def __call__(self, brief: str, images: Pictures) -> list[Score]:
        """One score an image, in order."""
        if not images:
            return []
        try:
            scores = self.score_images(brief, images)
        except Exception as error:  # noqa: BLE001 - whatever a judge does, the images stay
            return [unscored(self.name, error)] * len(images)
        if len(scores) != len(images):
            reason = f"{self.name} returned {len(scores)} scores for {len(images)} images"
            return [Score(reason=reason)] * len(images)
        return [_explained(score, self.name) for score in scores]


def open_scorer(spec: str | Callable[..., Any], device: str = "cpu") -> Scorer:
    """The scorer that `spec` names.

    Raises:
        ValueError: unknown name, or a CLIP model that does not load; says what was tried.
    """
    if callable(spec):
        return Scorer(getattr(spec, "__name__", type(spec).__name__), _each(spec))
    own = {name: scorer for model in built_ins() for name, scorer in model.scorers.items()}
    if spec in own:
        return Scorer(spec, own[spec](device))
    if isinstance(spec, str) and spec.startswith("clip:") and spec.removeprefix("clip:").strip():
        return Scorer(spec, clip_similarity(spec.removeprefix("clip:").strip(), device))
    raise ValueError(f"unknown scorer {spec!r}; known: {known_scorers()}")


def known_scorers() -> str:
    """What `open_scorer` takes, in words."""
    own = dict.fromkeys(name for model in built_ins() for name in model.scorers)
    return (
        f"{', '.join(own)}, clip:FOLDER_OR_HUB_ID, "
        "or in Python a callable (brief, image) -> float or Score"
    )


def open_second_judge(own: BuiltIn | None, device: str = "cpu") -> Scorer:
    """The judge that never selects: it grades what others chose; only built-in models have one."""
    if own:
        return Scorer(own.judge, own.open_judge(device))
    return Scorer("none", lambda _, images: [Score(reason=NO_SECOND_JUDGE)] * len(images))


def unscored(name: str, error: Exception) -> Score:
    """A score without a value: which judge failed, and how."""
    message = f"{name} failed: {type(error).__name__}: {error}"
    return Score(reason=message[:REASON_LIMIT])


def _explained(score: Score, name: str) -> Score:
    if score.value is None and not score.reason:
        return score.model_copy(update={"reason": f"{name} gave neither a value nor a reason"})
    return score


def scored(name: str, value: float, explanation: str = "") -> Score:
    """The score of a judge that gave this value: none where it is no finite number."""
    if not math.isfinite(value):
        return Score(reason=f"{name} returned {value}; expected a finite number")
    return Score(value=value, explanation=explanation)


# -- the judges --------------------------------------------------------------------------------


def _each(function: Callable[..., Any]) -> ScoreImages:
    """The caller's own function, one image at a time, so that one failure costs one score."""
    name = getattr(function, "__name__", type(function).__name__)

    def one(brief: str, image: Image.Image) -> Score:
        try:
            value = function(brief, image)
            return value if isinstance(value, Score) else scored(name, float(value))
        except Exception as error:  # noqa: BLE001 - the caller's code may raise anything
            return unscored(name, error)

    return lambda brief, images: [one(brief, image) for image in images]


def clip_similarity(source: str, device: str) -> ScoreImages:
    """Cosine similarity of brief and image, as in CLIPScore (Hessel et al. 2021) but unscaled."""
    import torch

    try:
        with quiet_loading():
            from transformers import CLIPModel, CLIPProcessor

            model: Any = CLIPModel.from_pretrained(
                source, use_safetensors=True, dtype=torch.float32
            )
            processor: Any = CLIPProcessor.from_pretrained(source)
    except (OSError, ValueError, ImportError) as error:
        raise ValueError(
            f"the scorer clip:{source} did not load: {str(error)[:400]}. Tried a folder and the "
            "Hugging Face hub, CLIPModel format, safetensors only. Give a folder that holds it, "
            f"go online, or pass another scorer: {known_scorers()}"
        ) from error
    model = model.to(device).eval()

    @torch.inference_mode()
    def score(brief: str, images: Pictures) -> list[Score]:
        inputs = processor(
            text=[brief],
            images=[image.convert("RGB") for image in images],
            return_tensors="pt",
            truncation=True,
            padding=True,
            max_length=model.config.text_config.max_position_embeddings,
        ).to(device)
        similarity = model(**inputs).logits_per_image[:, 0] / model.logit_scale.exp()
        return [
            scored("CLIP", value, f"CLIP cosine similarity {value:.3f}")
            for value in similarity.float().tolist()
        ]

    return score
