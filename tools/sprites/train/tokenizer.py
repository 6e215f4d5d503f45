"""Sprites' tokenizer: CLIP's byte-pair encoding, its merges learned from the language itself.

Every word of the lexicon becomes one token; any other word falls into pieces.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from promptprobe.tools.sprites.language import FRAMES, lexicon

LENGTH = 32
START, END = "<|startoftext|>", "<|endoftext|>"


def build_tokenizer() -> CLIPTokenizer:
    words = sorted({word for phrase in lexicon() for word in phrase.split()})
    frames = [word for style in FRAMES.values() for frame in style for word in frame.split()]
    learner = Tokenizer(models.BPE(unk_token=END, end_of_word_suffix="</w>"))
    learner.normalizer = normalizers.Lowercase()
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r"[a-z]+|[0-9]|[^\sa-z0-9]+"), "removed", invert=True),
         pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )  # fmt: skip
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    learner.train_from_iterator(
        [*words, *frames],
        trainers.BpeTrainer(vocab_size=4000, end_of_word_suffix="</w>", show_progress=False),
    )
    merges = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    tokens = (
        alphabet + [letter + "</w>" for letter in alphabet] + ["".join(pair) for pair in merges]
    )
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    vocabulary |= {START: len(vocabulary), END: len(vocabulary) + 1}
    with tempfile.TemporaryDirectory() as folder:
        vocab, merge = Path(folder, "vocab.json"), Path(folder, "merges.txt")
        vocab.write_text(json.dumps(vocabulary))
        merge.write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
        return CLIPTokenizer.from_pretrained(folder, model_max_length=LENGTH)
