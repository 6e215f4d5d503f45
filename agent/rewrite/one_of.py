"""Finds things of which the brief has one and the rewrite has several.

Three red apples are neither "one red apple" nor "a red apple". But an article is not a count, and a
rewrite need not repeat "one". So only this counts as certain: the brief has one of a thing, and the
rewrite counts that thing in the plural and never has it in the singular. Whatever these few rules
of grammar miss is left to the LLM's judgement.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Iterator, Sequence
from operator import itemgetter

from promptprobe.agent.rewrite.number_words import (
    CJK_DIGITS,
    FUNCTION_WORDS,
    GROUPS,
    MEASURES,
    NUMBERS,
    cjk_value,
    languages_of,
    numbers_said,
)

TOKEN = re.compile(r"[^\W\d_]+|\d+|[^\w\s'’]")
LONGEST = 5
"""Maximum number of words in a noun phrase, from its number to its noun."""


def made_many(brief: str, rewrite: str, numbers: Collection[int]) -> str:
    """What the rewrite certainly has several of and the brief only one, as "3 apples"; or empty.

    Args:
        brief, rewrite: without quotations.
        numbers: numbers that are only in the rewrite.
    """
    before, after = TOKEN.findall(brief), TOKEN.findall(rewrite)
    likely = languages_of([word.lower() for word in before])
    for language in filter(ONE.__contains__, likely):
        phrases = list(_counted(after, language, len(likely) == 1, numbers))
        inside = {at for _, begin, end in phrases for at in range(begin, end)}
        outside = {word.lower() for at, word in enumerate(after) if at not in inside}
        for thing in _single(before, language):
            for number, begin, end in phrases:
                many = _plural_in(_words(after[begin:end]), thing, language)
                if many and thing.lower() not in outside:
                    return f"{number} {many}"
    return _made_many_by_signs(brief, rewrite, numbers)


def _single(words: Sequence[str], language: str) -> Iterator[str]:
    """Nouns of which a text has one, by article or number, and which it does not repeat."""
    lower = [word.lower() for word in words]
    for at, word in enumerate(lower):
        phrase = _words(words[at + 1 : _end(lower, at + 1, language)])
        if word in ONE[language] and phrase and phrase[0].lower() not in NUMBERS[language]:
            noun = NOUN[language](phrase)
            if len(noun) > 2 and lower.count(noun.lower()) == 1:
                yield noun


def _counted(
    words: Sequence[str], language: str, sure: bool, numbers: Collection[int]
) -> Iterator[tuple[int, int, int]]:
    """Yield each number in a text with the range (begin, end) of the words that it counts.

    Hyphenated numbers are skipped: a three-piece suit and a two-headed dragon are one thing.
    """
    lower = [word.lower() for word in words]
    found = [(int(word), at, at + 1) for at, word in enumerate(words) if word.isdecimal()]
    found += numbers_said(lower, language, sure)
    found += [
        (value, at, at + 1)
        for at, word in enumerate(lower)
        for value, pattern in GROUPS.items()
        if pattern.fullmatch(word)
    ]
    for value, _, end in found:
        following = lower[end] if end < len(lower) else ""
        if value in numbers and following != "-":
            begin = end + (following in ("of", "de", "d", "von"))
            yield value, begin, _end(lower, begin, language)


def _end(lower: Sequence[str], begin: int, language: str) -> int:
    """The end of the words that may belong to one noun."""
    for at in range(begin, min(len(lower), begin + LONGEST)):
        word = lower[at]
        stops = word in STOPS[language] or word in ONE[language] or not word.isalpha()
        if (stops and word != "-") or (language == "en" and word.endswith("ing")):
            return at
    return min(len(lower), begin + LONGEST)


def _words(found: Sequence[str]) -> list[str]:
    return [word for word in found if word != "-"]


def _plural_in(phrase: Sequence[str], thing: str, language: str) -> str:
    """The word of a noun phrase that is the plural of `thing`; empty if there is none."""
    one = _folded(thing)
    nouns = phrase if language == "en" else [NOUN[language](phrase)] if phrase else []
    for noun in nouns:
        many = _folded(noun)
        if many in _plurals(one, language) or (many == one and one.endswith(ALIKE[language])):
            return noun
    return ""


def _plurals(one: str, language: str) -> set[str]:
    """Possible plurals of a noun, accents folded; some of them need not exist."""
    found = {one + ending for ending in ENDINGS[language]}
    changed = (one[: -len(old)] + new for old, new in CHANGES[language] if one.endswith(old))
    return found | set(changed)


def _folded(word: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKD", word.lower()) if c.isalpha())


# -- language data -------------------------------------------------------------------------------


def _first_in_capitals(run: Sequence[str]) -> str:
    return next((word for word in run if word[0].isupper()), "")


def _first_behind_adjectives(run: Sequence[str]) -> str:
    return next((word for word in run if _folded(word) not in BEFORE_NOUNS), "")


NOUN: dict[str, Callable[[Sequence[str]], str]] = {
    "en": itemgetter(-1),
    "de": _first_in_capitals,
    "fr": _first_behind_adjectives,
    "es": _first_behind_adjectives,
}
"""Which word of a noun phrase is the noun."""
ONE = {
    "en": frozenset("a an one".split()),
    "de": frozenset("ein eine einen einem einer eines".split()),
    "fr": frozenset("un une".split()),
    "es": frozenset("un una uno".split()),
}
"""Articles and the number one."""
FURTHER_STOPS = {
    "en": "or to from near next beside between behind above below who that which wearing few "
    "couple pair lot as into onto through",
    "de": "oder zu aus bei neben zwischen hinter über unter vor paar bisschen wenig in an",
    "fr": "ou à en près devant derrière entre peu qui que par pour",
    "es": "o a en cerca junto entre detrás delante poco par que para por",
}
STOPS = {name: FUNCTION_WORDS[name] | set(words.split()) for name, words in FURTHER_STOPS.items()}
"""Words at which a noun phrase ends."""
BEFORE_NOUNS = frozenset(
    "seul seule unique petit petite petits petites grand grande grands grandes gros grosse grosses "
    "beau bel belle beaux belles vieux vieil vieille vieilles jeune jeunes joli jolie jolis jolies "
    "nouveau nouvelle nouveaux nouvelles bon bonne bons bonnes haut haute hauts hautes "
    "solo sola unico unica pequeno pequena pequenos pequenas gran grandes viejo vieja viejos "
    "viejas joven jovenes hermoso hermosa hermosos hermosas bello bella bellos bellas nuevo nueva "
    "nuevos nuevas buen buena buenos buenas antiguo antigua antiguos antiguas".split()
)
"""French and Spanish adjectives that precede a noun, accents folded; others follow it."""
ENDINGS = {
    "en": ("s", "es"),
    "de": ("e", "n", "en", "er", "ern", "s", "nen", "se"),
    "fr": ("s", "x"),
    "es": ("s", "es"),
}
CHANGES = {
    "en": [
        ("y", "ies"), ("f", "ves"), ("fe", "ves"), ("man", "men"), ("child", "children"),
        ("person", "people"), ("mouse", "mice"), ("goose", "geese"), ("foot", "feet"),
    ],
    "de": [],
    "fr": [("al", "aux"), ("ail", "aux")],
    "es": [("z", "ces")],
}  # fmt: skip
ALIKE: dict[str, tuple[str, ...]] = {
    "en": ("sheep", "fish", "deer", "craft", "moose", "bison"),
    "de": ("",),
    "fr": ("s", "x", "z"),
    "es": ("s",),
}
"""Endings of nouns whose singular and plural look the same; in German any noun's may."""

# -- Chinese and Japanese ------------------------------------------------------------------------

ENDS = "在正坐站躺趴飞飛跑走放和与與跟着穿戴拿抱是有从從座立寝眠泳歩咲見"
"""Characters at which a noun phrase ends: verbs and particles."""
ADJECTIVE = r"(?:[^，。、；,.;]{0,6}?[的の])?"
SEVERAL = re.compile(
    rf"(?<![{CJK_DIGITS}\d])([{CJK_DIGITS}]{{1,5}}|\d{{1,4}})([{MEASURES}]){ADJECTIVE}"
    rf"((?:(?![{ENDS}])[\u30a0-\u30ff\u4e00-\u9fff])+)"
)
"""A number, its measure word, an optional adjective, and the noun."""


def _made_many_by_signs(brief: str, rewrite: str, numbers: Collection[int]) -> str:
    """`made_many` for Chinese and Japanese, where 一只 is also an article."""
    single = [found for found in SEVERAL.finditer(brief) if _value(found) == 1]
    kept = {found[2] for found in SEVERAL.finditer(rewrite) if _value(found) == 1}
    for one in single:
        for many in SEVERAL.finditer(rewrite):
            same = many[2] == one[2] and (many[3].endswith(one[3]) or one[3].endswith(many[3]))
            if same and _value(many) in numbers and one[2] not in kept:
                return many.group()
    return ""


def _value(found: re.Match[str]) -> int:
    return int(found[1]) if found[1].isdecimal() else cjk_value(found[1])
