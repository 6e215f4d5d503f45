"""A text as known phrases: stems with one spelling for synonyms, and what part each plays.

English, by lists (vocabulary.py) and a light stemmer. What no list knows is content.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from itertools import pairwise

from promptprobe.agent.rewrite import vocabulary as v

QUOTED = re.compile(r"[\"“”«»]([^\"“”«»]{1,200})[\"“”«»]")
LEADS_QUOTE = re.compile(
    r"(?:that |which |and )?"
    r"(?:says|reads|saying|reading|labell?ed|with the (?:text|words?))\s*(?=\")"
)
LOCKED = re.compile(r"<[^<>]{1,200}>")
WEIGHT = re.compile(r":\d+(?:\.\d+)?|\b\d+\s?(?:mm|k|px|fps)\b|\bf/\d+(?:\.\d+)?")
WORDS = re.compile(r"[^\W_]+(?:'[^\W_]+)?|[,;.]|[^\w\s]")
LONGEST_PHRASE = 5
Phrase = tuple[str, str, str]
"""The words themselves, their role, and what they say in it."""


def take_locked(text: str) -> tuple[frozenset[str], str]:
    """Quoted text and <tags> as they are written, and the lower-case rest without them."""
    text = unicodedata.normalize("NFC", text)
    locked = frozenset(QUOTED.findall(text)) | frozenset(LOCKED.findall(text))
    plain = LEADS_QUOTE.sub(" ", re.sub(r"[“”]", '"', text.lower()))
    return locked, WEIGHT.sub(" ", LOCKED.sub(" ", QUOTED.sub(" , ", plain)))


def words_of(text: str) -> list[str]:
    """Words, stops and pictographs, in order; a hyphen parts words."""
    text = text.replace("-", " ").replace("’", "'")
    found = WORDS.findall(text)
    return [word for word in found if word in ",;." or word[0].isalnum() or _is_picture(word)]


def _is_picture(sign: str) -> bool:
    return ord(sign) > 127 and unicodedata.category(sign)[0] in "SM"


@cache
def _dictionary() -> dict[str, tuple[str, str]]:
    """Phrase -> (role, value). Later entries win."""
    known: dict[str, tuple[str, str]] = {}
    known |= {w.replace("-", " "): ("harmless", "") for w in v.HARMLESS}
    known |= dict.fromkeys(v.HARMLESS_PHRASES, ("drop", ""))
    known |= dict.fromkeys((*v.QUALITY, *v.FUNCTION), ("drop", ""))
    for group in map(str.split, v.SYNONYMS):
        known |= {name.replace("-", " "): ("word", stem(group[0])) for name in group}
    for medium, said in v.MEDIA.items():
        known |= {name.replace("-", " "): ("medium", medium) for name in said.split()}
    known |= {name: ("colour", colour) for colour, names in v.COLOURS.items() for name in names}
    for count, names in v.COUNTS.items():
        known |= {n.removeprefix("a "): ("count", f"#{count}") for n in names}
    known |= {w.replace("-", " "): ("separator", "") for w in v.SEPARATORS}
    known |= {"with": ("with", "")}
    known |= dict.fromkeys(v.NEGATIONS, ("negation", ""))
    for role, table in (("relation", v.RELATIONS), ("trailing", v.TRAILING)):
        known |= {p: (role, f"{name}{'~' if swap else ''}") for p, (name, swap) in table.items()}
    return known | {p: ("place", side) for p, side in v.PLACES.items()}


def phrases(words: list[str]) -> Iterator[Phrase]:
    """Longest match first; what is unknown is a content word."""
    known, at = _dictionary(), 0
    while at < len(words):
        for length in range(min(LONGEST_PHRASE, len(words) - at), 0, -1):
            phrase = " ".join(words[at : at + length])
            if phrase in known or length == 1:
                yield phrase, *known.get(phrase, _inflected(phrase))
                at += length
                break


def _inflected(word: str) -> tuple[str, str]:
    """An unknown word: the plural of a known one, or content by its stem."""
    role, value = _dictionary().get(singular(word), ("word", ""))
    return ("word", value) if role == "word" and value else ("word", stem(word))


def singular(word: str) -> str:
    """The singular where the word looks like a plural; any other word as it is."""
    if word in v.IRREGULAR:
        return v.IRREGULAR[word]
    if len(word) < 4 or word in v.SINGULAR_S or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "xes", "sses")):
        return word[:-2]
    return word.removesuffix("s")


@cache
def stem(word: str) -> str:
    """Light: plural, -ing, -ed and a final e go, so that "chase", "chases" and "chasing" agree."""
    word = singular(word)
    for ending in ("ing", "ed"):
        base = word.removesuffix(ending)
        if (
            base != word
            and word not in v.NOT_VERBS
            and re.search("[aeiouy]", base)
            and len(base) > 2
        ):
            doubled = base[-1] == base[-2] and base[-1] not in "lsz"
            return base[:-1] if doubled else base.removesuffix("e")
    return word.removesuffix("e") if len(word) > 3 else word


@cache
def times() -> frozenset[str]:
    """Stems of words that tell the time of day or year."""
    return frozenset(map(stem, v.TIMES))


def media_of(text: str) -> set[str]:
    """The media that a text names, such as "oil" or "photo"."""
    return {value for _, role, value in phrases(words_of(text)) if role == "medium"}


def verbs_of(text: str) -> frozenset[str]:
    """Stems of what looks like a verb: "chasing", "chased by"."""
    words = words_of(take_locked(text)[1])
    passive = {a for a, b in pairwise(words) if b == "by" and a.endswith("ed")}
    return frozenset(stem(word) for word in words if looks_like_verb(word) or word in passive)


def looks_like_verb(word: str) -> bool:
    """By its ending: "chasing", not "ring"."""
    return len(word) > 4 and word.endswith("ing") and word not in v.NOT_VERBS
