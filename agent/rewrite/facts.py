"""What code can be certain of in a rewrite, in any language: kept text, quotes, counts, negations.

Everything else that a brief asks for is the LLM's word (llm.py) and, in the end, the score's. A
doubt is no reason to refuse: only what a brief surely says is asked of a rewrite, and a rewrite may
say it in any way ("a pair" for two, "deserted" for "no people").
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from promptprobe.agent.rewrite.number_words import (
    CJK_DIGITS,
    GROUPS,
    KANA,
    MEASURES,
    cjk_value,
    languages_of,
    numbers_said,
)
from promptprobe.agent.rewrite.one_of import made_many

QUOTES = re.compile(
    r'["＂]([^"＂\n]{1,300}?)["＂]'
    r"|“([^”“]{1,300}?)[”“]"
    r"|„([^”“]{1,300}?)[”“]"
    r"|«\s*([^»]{1,300}?)\s*»"
    r"|»\s*([^«]{1,300}?)\s*«"
    r"|‹\s*([^›]{1,300}?)\s*›"
    r"|›\s*([^‹]{1,300}?)\s*‹"
    r"|‚([^‘’‚]{1,300}?)[‘’](?!\w)"
    r"|「([^」]{1,300}?)」"
    r"|『([^』]{1,300}?)』"
    r"|(?<!\w)‘(\S.{0,300}?)’(?!\w)"
    r"|(?<!\w)'(?=\S)(?!\d\ds\b)([^\n]{1,300}?)(?<=\S)'(?!\w)"
    r"|`([^`\n]{1,300}?)`"
)
"""Text between any kind of quotation marks. A straight or raised mark inside a word is an
apostrophe, and opens or closes nothing."""
DIGITS = re.compile(r"(?<![\w.,:/-])\d{1,6}(?![\w.:/%°])(?!,\d|-\d)")
"""A number by itself: no 4k, 35mm, f/2.8, 16:9, 24-70 or 2,5."""
NEGATIONS = re.compile(
    r"\b(?:no(?!\.? ?\d)|not(?! only)|without|never|none|neither|nor|nothing|nobody|kein\w*|ohne"
    r"|nicht(?! nur)|niemals|sans|aucune?|jamais|ne(?= \w)|sin|ningún|ninguna?|nunca)\b"
    r"|n['’]t\b|\bn['’](?=\w)|没|沒|不要|不带|不帶|不戴|不穿|无(?![数限尽论比虚])|無(?![数限尽論比虚])"
    r"|ない|なし|ません|ぬき|抜き",
    re.IGNORECASE,
)
NEGATING = {"no": {"en", "es"}, "sin": {"es"}}
"""Negations that are other words elsewhere, and the languages in which they negate."""
ABSENCE = re.compile(
    r"\w-free\b|\bfree (?:of|from)\b|\bdevoid\b|\black(?:s|ing)?\b|\bempty\b|\bdeserted\b"
    r"|\bbare\b|\babsen[ct]\w*|\bclean-shaven\b|\bunoccupied\b|\w{3,}(?:frei|leer)(?:e[nmrs]?)?\b"
    r"|\bleere?[nmrs]?\b|\bdésert\w*|\bvides?\b|\bdépourvue?s?\b|\bdesiert[oa]s?\b"
    r"|\bvací[oa]s?\b|\bdespejad[oa]s?\b|\bcarentes? de\b"
    r"|空无一|空無一|空荡|空蕩|空旷|空曠|无人|無人|不见|不見",
    re.IGNORECASE,
)
"""Further words for what is not there, which a rewrite may use and no brief is held to."""


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
        if not _holds(said, text):
            return f"it changes or drops the text {text!r}"
    asked = _plain(brief)
    for text in quoted(rewrite):
        if not _holds(asked, text):
            return f"it adds the text {text!r}"
    numbers = counts(rewrite) | _groups(rewrite)
    for number in sorted(counts(brief) - numbers):
        return f"it drops the count {number}"
    bare = _bare(rewrite)
    if many := made_many(_bare(brief), bare, numbers - counts(brief)):
        return f"it has {many}, where the brief has one"
    if _negates(brief) and not (NEGATIONS.search(bare) or ABSENCE.search(bare)):
        return "it drops a negation"
    return ""


def quoted(text: str) -> tuple[str, ...]:
    """The texts between quotation marks of any kind, in order, whatever the marks are."""
    found = (next(filter(None, match.groups()), "") for match in QUOTES.finditer(text))
    return tuple(plain for part in found if len(plain := _plain(part)) > 1)


def counts(text: str) -> set[int]:
    """Numbers from two on that a text says outside of quotes: digits, and words of its language."""
    bare = re.sub(r"(?<=\d)[,.'’\u202f\u00a0](?=\d{3}(?!\d))", "", _bare(text))
    found = {int(digits) for digits in DIGITS.findall(bare)}
    found |= {int(digits) for digits in re.findall(rf"(\d{{1,6}})(?=[{MEASURES}])", bare)}
    numerals = re.findall(rf"([{CJK_DIGITS}]{{1,7}})(?=[{MEASURES}])", bare)
    found |= {cjk_value(numeral) for numeral in numerals}
    found |= {value for word, value in KANA.items() if word in bare}
    words = re.findall(r"[^\W\d_]+", bare.lower())
    likely = languages_of(words)
    for language in likely:
        found |= {value for value, *_ in numbers_said(words, language, sure=len(likely) == 1)}
    return {number for number in found if number > 1}


def _negates(text: str) -> bool:
    """Whether a text surely negates: "no" is "in the" in Portuguese, "sin" an English noun."""
    bare = _bare(text)
    likely = languages_of(re.findall(r"[^\W\d_]+", bare.lower()))
    for word, languages in NEGATING.items():
        if not languages & set(likely):
            bare = re.sub(rf"\b{word}\b", " ", bare, flags=re.IGNORECASE)
    return NEGATIONS.search(bare) is not None


def _groups(text: str) -> set[int]:
    """Numbers that a text says by other words: a pair, a trio, 一对."""
    bare = _bare(text).lower()
    return {value for value, said in GROUPS.items() if said.search(bare)}


def _holds(text: str, part: str) -> bool:
    """Whether a text holds a part that is no piece of a longer word (in scripts with spaces)."""
    before = r"(?<!\w)" if _spaced(part[0]) else ""
    after = r"(?!\w)" if _spaced(part[-1]) else ""
    return re.search(f"{before}{re.escape(part)}{after}", text) is not None


def _spaced(letter: str) -> bool:
    return letter.isalnum() and not "\u3040" <= letter <= "\u9fff"


def _bare(text: str) -> str:
    """Without what is quoted: a sign that says "no dogs" negates nothing."""
    return QUOTES.sub(" ", unicodedata.normalize("NFKC", text))


def _plain(text: str) -> str:
    """One kind of apostrophe and single spaces; letters as they are."""
    return " ".join(unicodedata.normalize("NFC", text).replace("’", "'").split())
