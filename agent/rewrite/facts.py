"""Checks what code can decide about a rewrite, in any language: kept text, quotes, counts and
negations.

Everything else that a brief asks for is judged by the LLM (llm.py) and, in the end, by the score. A
rewrite is never refused on a doubt: it only has to keep what the brief certainly says, and may say
it in any way ("a pair" for two, "deserted" for "no people").
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
apostrophe and does not open or close a quotation."""
DIGITS = re.compile(r"(?<![\w.,:/-])\d{1,6}(?![\w.:/%°])(?!,\d|-\d)")
"""A number by itself, unlike 4k, 35mm, f/2.8, 16:9, 24-70 or 2,5."""
NEGATIONS = re.compile(
    r"\b(?:no(?!\.? ?\d)|not(?! only)|without|never|none|neither|nor|nothing|nobody|kein\w*|ohne"
    r"|nicht(?! nur)|niemals|sans|aucune?|jamais|ne(?= \w)|sin|ningún|ninguna?|nunca)\b"
    r"|n['’]t\b|\bn['’](?=\w)|没|沒|不要|不带|不帶|不戴|不穿|无(?![数限尽论比虚])|無(?![数限尽論比虚])"
    r"|ない|なし|ません|ぬき|抜き",
    re.IGNORECASE,
)
NEGATING = {"no": {"en", "es"}, "sin": {"es"}}
"""Negations that mean something else in other languages, with the languages they negate in."""
ABSENCE = re.compile(
    r"\w-free\b|\bfree (?:of|from)\b|\bdevoid\b|\black(?:s|ing)?\b|\bempty\b|\bdeserted\b"
    r"|\bbare\b|\babsen[ct]\w*|\bclean-shaven\b|\bunoccupied\b|\w{3,}(?:frei|leer)(?:e[nmrs]?)?\b"
    r"|\bleere?[nmrs]?\b|\bdésert\w*|\bvides?\b|\bdépourvue?s?\b|\bdesiert[oa]s?\b"
    r"|\bvací[oa]s?\b|\bdespejad[oa]s?\b|\bcarentes? de\b"
    r"|空无一|空無一|空荡|空蕩|空旷|空曠|无人|無人|不见|不見",
    re.IGNORECASE,
)
"""Other words for an absence: a rewrite may use them, but in a brief they require nothing."""


def check_facts(brief: str, rewrite: str, keep: Sequence[str] = ()) -> str:
    """Why a rewrite certainly changes what the brief asks for; empty if nothing is certain.

    Args:
        keep: text that every prompt must contain verbatim.
    """
    for text in keep:
        if text not in rewrite:
            return f"it must keep {text!r} verbatim"
    plain_rewrite = _plain(rewrite)
    for text in quoted(brief):
        if not _holds(plain_rewrite, text):
            return f"it changes or drops the text {text!r}"
    plain_brief = _plain(brief)
    for text in quoted(rewrite):
        if not _holds(plain_brief, text):
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
    """The texts between quotation marks of any kind, in order."""
    found = (next(filter(None, match.groups()), "") for match in QUOTES.finditer(text))
    return tuple(plain for part in found if len(plain := _plain(part)) > 1)


def counts(text: str) -> set[int]:
    """Numbers above one that a text has outside of quotes, as digits or as words."""
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
    """Whether a text certainly negates: "no" is "in the" in Portuguese, "sin" an English noun."""
    bare = _bare(text)
    likely = languages_of(re.findall(r"[^\W\d_]+", bare.lower()))
    for word, languages in NEGATING.items():
        if not languages & set(likely):
            bare = re.sub(rf"\b{word}\b", " ", bare, flags=re.IGNORECASE)
    return NEGATIONS.search(bare) is not None


def _groups(text: str) -> set[int]:
    """Numbers that a text expresses by other words: a pair, a trio, 一对."""
    bare = _bare(text).lower()
    return {value for value, pattern in GROUPS.items() if pattern.search(bare)}


def _holds(text: str, part: str) -> bool:
    """Whether a text contains a part, as whole words in scripts with spaces."""
    before = r"(?<!\w)" if _spaced(part[0]) else ""
    after = r"(?!\w)" if _spaced(part[-1]) else ""
    return re.search(f"{before}{re.escape(part)}{after}", text) is not None


def _spaced(letter: str) -> bool:
    return letter.isalnum() and not "\u3040" <= letter <= "\u9fff"


def _bare(text: str) -> str:
    """The text without quotations: a sign that says "no dogs" negates nothing."""
    return QUOTES.sub(" ", unicodedata.normalize("NFKC", text))


def _plain(text: str) -> str:
    """The text with one kind of apostrophe and single spaces."""
    return " ".join(unicodedata.normalize("NFC", text).replace("’", "'").split())
