"""Sprites' tokenizer: CLIP's byte-pair encoding, with merges learned from the language itself.

Every word of the lexicon becomes one token; any other word is split into several.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from tokenizers import pre_tokenizers
from transformers import CLIPTokenizer

from promptprobe.tools.sprites.language import FRAMES, lexicon

LENGTH = 32
START, END = "<|startoftext|>", "<|endoftext|>"


def build_tokenizer() -> CLIPTokenizer:
    words = sorted({word for phrase in lexicon() for word in phrase.split()})
    frames = [word for style in FRAMES.values() for frame in style for word in frame.split()]
    merges = learn_merges([*words, *frames])
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
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


def learn_merges(words: Sequence[str]) -> list[tuple[str, str]]:
    """Byte-pair merges until every word is one token.

    The trainer of `tokenizers` breaks ties by the order of a hash map, which differs between
    processes: the ids of "car" and "cat" were swapped between two runs, and a model whose training
    continued in the second one drew cats for cars. Here ties go to the alphabetically last pair.
    """
    found: list[tuple[str, str]] = []
    parts = [part for word in words for part in re.findall(r"[a-z]+|[0-9]|[^a-z0-9]+", word)]
    pieces = [[*part[:-1], part[-1] + "</w>"] for part in parts]
    while pairs := Counter(pair for word in pieces for pair in pairwise(word)):
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        found.append(best)
        pieces = [merged(word, best) for word in pieces]
    return found


def merged(word: list[str], pair: tuple[str, str]) -> list[str]:
    """A word's pieces with every occurrence of a pair merged, left to right."""
    done: list[str] = []
    for piece in word:
        if done and (done[-1], piece) == pair:
            done[-1] += piece
        else:
            done.append(piece)
    return done
