"""What code can be certain of in a rewrite, in any language: kept text, quotes, counts, negations.

Everything else that a brief asks for is the LLM's word (llm.py) and, in the end, the score's.
A doubt is no reason to refuse here: what is not surely said in the brief is not asked of a rewrite.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

QUOTES = re.compile(
    r'"([^"\n]{1,300}?)"'
    r"|“([^”“]{1,300}?)[”“]"
    r"|„([^”“]{1,300}?)[”“]"
    r"|«\s*([^»]{1,300}?)\s*»"
    r"|»\s*([^«]{1,300}?)\s*«"
    r"|「([^」]{1,300}?)」"
    r"|『([^』]{1,300}?)』"
    r"|(?<!\w)‘(\S.{0,300}?)’(?!\w)"
    r"|(?<!\w)'(?=\S)([^\n]{1,300}?)(?<=\S)'(?!\w)"
    r"|`([^`\n]{1,300}?)`"
)
"""Text between any kind of quotation marks. A straight or raised mark inside a word is an
apostrophe, and opens or closes nothing."""
NUMBERS: dict[str, tuple[str, ...]] = {
    "en": ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
           "twelve"),
    "de": ("zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun", "zehn", "elf",
           "zwölf"),
    "fr": ("deux", "trois", "quatre", "cinq", "six", "sept", "huit", "neuf", "dix", "onze",
           "douze"),
    "es": ("dos", "tres", "cuatro", "cinco", "seis", "siete", "ocho", "nueve", "diez", "once",
           "doce"),
}  # fmt: skip
"""From two on: one is an article in many languages, and is asked of nobody."""
FUNCTION_WORDS: dict[str, frozenset[str]] = {
    "en": frozenset("a an the and with of on in at by is are under over holding".split()),
    "de": frozenset("ein eine einen einem einer der die das den dem und mit auf im am von".split()),
    "fr": frozenset("un une le la les des du et avec sur dans au aux de sous".split()),
    "es": frozenset("un una unos unas el la los las y con sobre en del al de bajo".split()),
}
"""Enough of each language to tell which one a text is in: "once" is eleven in Spanish only."""
CJK = "〇零一二两兩三四五六七八九十"
VALUES = dict(zip("一二三四五六七八九", range(1, 10), strict=True)) | {"两": 2, "兩": 2}
MEASURES = (
    "只隻个個匹本枚人つ名条條张張朵辆輛座头頭颗顆位棵台臺羽冊杯"
    + "軒輪株把件片块塊艘架盏盞瓶根串群双雙対對"
)
"""A Chinese or Japanese numeral counts before a measure word; 一起 and 一样 count nothing."""
NEGATIONS = re.compile(
    r"\b(?:no|not|without|never|none|neither|nor|kein\w*|ohne|nicht|niemals|sans|pas|aucune?|jamais"
    r"|sin|ningún|ninguna?|nunca)\b|n['’]t\b"
    r"|没|沒|不要|不带|不帶|不戴|不穿|无(?![数限尽尽论比])|無(?![数限尽論比])|ない|なし|ません|ぬき|抜き",
    re.IGNORECASE,
)


def check_facts(brief: str, rewrite: str, keep: Sequence[str] = ()) -> str:
    """Why a rewrite surely changes what the brief asks for; empty where nothing is sure.

    Args:
        keep: text that every prompt holds verbatim.
    """
    for text in keep:
        if text not in rewrite:
            return f"it must keep {text!r} verbatim"
    said = _plain(rewrite)
    for text in quoted(brief):
        if text not in said:
            return f"it changes or drops the text {text!r}"
    asked = _plain(brief)
    for text in quoted(rewrite):
        if text not in asked:
            return f"it adds the text {text!r}"
    numbers = counts(rewrite)
    for number in sorted(counts(brief) - numbers):
        return f"it drops the count {number}"
    if NEGATIONS.search(_bare(brief)) and not NEGATIONS.search(_bare(rewrite)):
        return "it drops a negation"
    return ""


def quoted(text: str) -> tuple[str, ...]:
    """The texts between quotation marks of any kind, in order, whatever the marks are."""
    found = (next(filter(None, match.groups()), "") for match in QUOTES.finditer(text))
    return tuple(plain for part in found if len(plain := _plain(part)) > 1)


def counts(text: str) -> set[int]:
    """Numbers from two on that a text says outside of quotes: digits, and words of its language."""
    bare = _bare(text)
    found = {int(digits) for digits in re.findall(r"(?<![\w.,:/-])\d{1,6}(?![\w.:/%°])", bare)}
    found |= {int(digits) for digits in re.findall(rf"(\d{{1,6}})(?=[{MEASURES}])", bare)}
    found |= {_cjk(numeral) for numeral in re.findall(rf"([{CJK}]{{1,3}})(?=[{MEASURES}])", bare)}
    words = re.findall(r"[^\W\d_]+", bare.lower())
    for language in _languages(words):
        values = dict(zip(NUMBERS[language], range(2, 13), strict=True))
        found |= {values[word] for word in words if word in values}
    return {number for number in found if number > 1}


def _languages(words: Sequence[str]) -> list[str]:
    """In which languages a text may be: those with the most function words, all where none has."""
    scores = {name: sum(word in known for word in words) for name, known in FUNCTION_WORDS.items()}
    most = max(scores.values())
    return [name for name, score in scores.items() if score == most]


def _cjk(numeral: str) -> int:
    """三 is 3, 十二 is 12, 二十 is 20, 二十五 is 25."""
    tens, ten, ones = numeral.partition("十")
    if not ten:
        return VALUES.get(numeral, 0)
    return 10 * VALUES.get(tens, 1) + VALUES.get(ones, 0)


def _bare(text: str) -> str:
    """Without what is quoted: a sign that says "no dogs" negates nothing."""
    return QUOTES.sub(" ", unicodedata.normalize("NFKC", text))


def _plain(text: str) -> str:
    """One kind of apostrophe and single spaces; letters as they are."""
    return " ".join(unicodedata.normalize("NFC", text).replace("’", "'").split())
