"""Judges that compare embeddings of brief and image: CLIP, SigLIP and PickScore.

A brief longer than the text encoder reads is cut into parts at white space, and the similarities
are averaged by length, so that no word is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from promptprobe.tools.models.hub import ask_hub
from promptprobe.tools.models.loading import quiet_loading
from promptprobe.tools.records import Score
from promptprobe.tools.scorers.table import Opened, scored

if TYPE_CHECKING:
    from torch import Tensor

    from promptprobe.tools.scorers.table import Pictures

BATCH = 32
SIGLIP_USUAL = (0.0, 0.2)
"""Range of SigLIP cosines; by their own bias, published models call 0.11 to 0.15 and up a match."""
PICKSCORE = "yuvalkirstain/PickScore_v1"
PICKSCORE_PROCESSOR = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"


def open_clip(source: str, device: str) -> Opened:
    """Cosine similarity, as in CLIPScore (Hessel et al. 2021) but neither scaled nor clipped.

    Raises:
        ValueError: it does not load; the message says what was tried.
    """
    encoder = _load(f"clip:{source}", source, source, device)

    def score(brief: str, images: Pictures) -> list[Score]:
        return [
            scored(encoder.kind, value, f"{encoder.kind} cosine similarity {value:.3f}")
            for value in encoder.similarity(brief, images)
        ]

    usual = SIGLIP_USUAL if encoder.kind == "SigLIP" else None
    return Opened(score, encoder.unread, usual=usual)


def open_pickscore(source: str, device: str) -> Opened:
    """Scaled cosine similarity of a CLIP that was trained on people's choices.

    Args:
        source: folder with model and processor; if empty, PickScore_v1 from the hub.
        device: where it runs.

    Raises:
        ValueError: it does not load.
    """
    encoder = _load("pickscore", source or PICKSCORE, source or PICKSCORE_PROCESSOR, device)
    scale = float(encoder.model.logit_scale.detach().exp())

    def score(brief: str, images: Pictures) -> list[Score]:
        return [
            scored("PickScore", value * scale, f"PickScore {value * scale:.2f}")
            for value in encoder.similarity(brief, images)
        ]

    return Opened(score, encoder.unread)


@dataclass(frozen=True)
class Encoder:
    """A CLIP or SigLIP with its tokenizer and image processor."""

    kind: str
    model: Any
    tokenizer: Any
    image_processor: Any

    @property
    def limit(self) -> int:
        """Tokens that the text encoder reads, including special ones."""
        return int(self.model.config.text_config.max_position_embeddings)

    def similarity(self, brief: str, images: Pictures) -> list[float]:
        """Cosine similarity of the brief with each image."""
        import torch

        room = self.limit - self.tokenizer.num_special_tokens_to_add()
        parts = in_parts(brief, self._count, room)
        with torch.inference_mode():
            text = _unit(self.model.get_text_features(**self._tokens(parts)))
            lengths = torch.tensor([float(max(1, self._count(part))) for part in parts])
            weights = (lengths / lengths.sum()).to(text)
            mean = (weights[:, None] * text).sum(0)
            found: list[float] = []
            for first in range(0, len(images), BATCH):
                colour = [image.convert("RGB") for image in images[first : first + BATCH]]
                pixels = self.image_processor(images=colour, return_tensors="pt")["pixel_values"]
                seen = _unit(self.model.get_image_features(pixels.to(self.model.device)))
                found += (seen @ mean).float().tolist()
        return found

    def unread(self, brief: str) -> list[str]:
        """Words of a brief that are unknown to the tokenizer."""
        unknown = self.tokenizer.unk_token_id
        words = dict.fromkeys(re.findall(r"\w+", brief))
        return [word for word in words if set(self._ids(word)) == {unknown}]

    def _tokens(self, parts: Sequence[str]) -> Any:
        # SigLIP was trained on texts padded to the full length, without a mask.
        padding = "max_length" if self.kind == "SigLIP" else True
        return self.tokenizer(
            list(parts),
            padding=padding,
            truncation=True,
            max_length=self.limit,
            return_tensors="pt",
        ).to(self.model.device)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return ids

    def _count(self, text: str) -> int:
        return len(self._ids(text))


def in_parts(text: str, count: Any, room: int) -> list[str]:
    """The text in parts of at most `room` tokens, halved at the white space nearest the middle."""
    text = text.strip()
    if len(text) < 2 or count(text) <= room:
        return [text]
    middle = len(text) // 2
    gaps = [gap.start() for gap in re.finditer(r"\s", text)]
    cut = min(gaps, key=lambda at: abs(at - middle), default=middle)
    return [*in_parts(text[:cut], count, room), *in_parts(text[cut:], count, room)]


def _unit(found: Any) -> Tensor:
    """Embeddings of length one; transformers 5 returns them in an output object."""
    features: Tensor = found if hasattr(found, "norm") else found.pooler_output
    return features / features.norm(dim=-1, keepdim=True)


def _load(name: str, source: str, processor_source: str, device: str) -> Encoder:
    import torch

    try:
        with quiet_loading():
            from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

            ask_hub("the judge", source, "config.json")
            model: Any = AutoModel.from_pretrained(
                source, use_safetensors=True, dtype=torch.float32
            )
            tokenizer = AutoTokenizer.from_pretrained(processor_source)
            image_processor = AutoImageProcessor.from_pretrained(processor_source)
    except (OSError, ValueError, ImportError, KeyError, RuntimeError) as error:
        raise ValueError(
            f"the judge {name} did not load: {str(error)[:400]}. Tried a folder and the "
            "Hugging Face hub, safetensors only. Give a folder that contains it, go online, or "
            "name another judge; `promptprobe judges` lists them"
        ) from error
    kind = {"clip": "CLIP", "siglip": "SigLIP", "siglip2": "SigLIP"}.get(model.config.model_type)
    if kind is None:
        raise ValueError(
            f"the judge {name} must be a CLIP or SigLIP, got a {model.config.model_type!r} model"
        )
    return Encoder(kind, model.to(device).eval(), tokenizer, image_processor)
