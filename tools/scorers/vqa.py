"""VQAScore (Lin et al. 2024, arXiv 2404.01291): P(yes) of a local VLM asked about the brief."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from promptprobe.tools.models.hub import ask_hub
from promptprobe.tools.models.loading import quiet_loading
from promptprobe.tools.records import Score
from promptprobe.tools.scorers.table import Opened, scored

if TYPE_CHECKING:
    from promptprobe.tools.scorers.table import Pictures

BATCH = 8
QUESTION = 'Does this figure show "{brief}"? Please answer yes or no.'
YES = ("Yes", "yes", "YES", " Yes", " yes")
"""Possible beginnings of a positive answer; the probabilities of their first tokens are added."""


def open_vqa(source: str, device: str) -> Opened:
    """The VLM from a folder or hub id, in the format of transformers' image-text-to-text models.

    Raises:
        ValueError: it does not load, or has no chat template.
    """
    import torch

    model, processor = _load(source, device)
    yes = sorted({_first_token(processor.tokenizer, word) for word in YES})

    def score(brief: str, images: Pictures) -> list[Score]:
        content = [{"type": "image"}, {"type": "text", "text": QUESTION.format(brief=brief)}]
        text = processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )
        found: list[Score] = []
        for first in range(0, len(images), BATCH):
            colour = [image.convert("RGB") for image in images[first : first + BATCH]]
            inputs = processor(
                images=[[image] for image in colour],
                text=[text] * len(colour),
                padding=True,
                return_tensors="pt",
            ).to(device, model.dtype)
            with torch.inference_mode():
                logits = model(**inputs).logits[:, -1].float()
            chances = logits.softmax(-1)[:, yes].sum(-1).clamp(0, 1).tolist()
            found += [scored("VQAScore", p, f"P(yes) {p:.3f}") for p in chances]
        return found

    return Opened(score)


def _load(source: str, device: str) -> tuple[Any, Any]:
    import torch

    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    try:
        with quiet_loading():
            from transformers import AutoModelForImageTextToText, AutoProcessor

            ask_hub("the judge", source, "config.json")
            model: Any = AutoModelForImageTextToText.from_pretrained(
                source, use_safetensors=True, dtype=dtype
            )
            processor: Any = AutoProcessor.from_pretrained(source)
    except (OSError, ValueError, ImportError, KeyError, RuntimeError) as error:
        raise ValueError(
            f"the judge vqa:{source} did not load: {str(error)[:400]}. Tried a folder and the "
            "Hugging Face hub, an image-text-to-text model, safetensors only. Give a folder that "
            "contains it, go online, or name another judge; `promptprobe judges` lists them"
        ) from error
    if not getattr(processor, "chat_template", None):
        raise ValueError(f"the judge vqa:{source} has no chat template, so it cannot be used")
    processor.tokenizer.padding_side = "left"  # the answer follows the last token of each
    return model.to(device).eval(), processor


def _first_token(tokenizer: Any, word: str) -> int:
    return int(tokenizer(word, add_special_tokens=False)["input_ids"][0])
