"""Number words of six languages: English, German, French, Spanish, Chinese and Japanese.

Chinese and Japanese count with characters before a measure word. The others have number words, some
of which mean something else in another language.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import product

FUNCTION_WORDS: dict[str, frozenset[str]] = {
    "en": frozenset("a an the and with of on in at by is are under over holding".split()),
    "de": frozenset("ein eine einen einem einer der die das den dem und mit auf im am von".split()),
    "fr": frozenset("un une le la les des du et avec sur dans au aux de sous".split()),
    "es": frozenset("un una unos unas el la los las y con sobre en del al de bajo".split()),
    "pt": frozenset("um uma uns umas o os a as do da dos das no na nos nas em com e ao".split()),
}
"""Enough words to tell the language of a text: "once" is eleven only in Spanish."""
HOMOGRAPHS = frozenset(("elf", "once", "dos", "neuf", "cent", "mil"))
"""Numbers in one language that mean something else in another; used if the language is certain."""


def _words(first: int, listed: str) -> dict[str, int]:
    return {word: value for value, word in enumerate(listed.split(), first) if word != "-"}


def _tens(listed: str) -> dict[str, int]:
    return {word: 10 * value for word, value in _words(2, listed).items()}


def _joined(pattern: str, tens: dict[str, int], ones: dict[str, int]) -> dict[str, int]:
    """All combinations of tens and ones, in a language's pattern."""
    return {pattern.format(t=t, o=o): tens[t] + ones[o] for t, o in product(tens, ones)}


def _times(pattern: str, ones: dict[str, int], unit: int) -> dict[str, int]:
    """The multiples of a hundred or a thousand."""
    return {pattern.format(o=word): unit * value for word, value in ones.items()}


def _english() -> dict[str, int]:
    low = _words(2, "two three four five six seven eight nine ten eleven twelve thirteen fourteen "
                    "fifteen sixteen seventeen eighteen nineteen")  # fmt: skip
    tens = _tens("twenty thirty forty fifty sixty seventy eighty ninety")
    ones = {"one": 1} | {word: value for word, value in low.items() if value < 10}
    both = _joined("{t} {o}", tens, ones)
    high = _times("{o} hundred", ones, 100) | {"a hundred": 100, "hundred": 100}
    high |= _times("{o} thousand", ones, 1000) | {"a thousand": 1000, "thousand": 1000}
    return {**low, **tens, **both, **high, "dozen": 12, "a dozen": 12, "half a dozen": 6,
            "half dozen": 6, "two dozen": 24}  # fmt: skip


def _german() -> dict[str, int]:
    low = _words(2, "zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn "
                    "fünfzehn sechzehn siebzehn achtzehn neunzehn")  # fmt: skip
    tens = _tens("zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig")
    ones = {"ein": 1} | {word: value for word, value in low.items() if value < 10}
    both = _joined("{o}und{t}", tens, ones)
    high = _times("{o}hundert", ones, 100) | {"hundert": 100}
    high |= _times("{o}tausend", ones, 1000) | {"tausend": 1000}
    return {**low, **tens, **both, **high, "zwo": 2, "dutzend": 12, "halbes dutzend": 6}


def _french() -> dict[str, int]:
    low = _words(2, "deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze "
                    "quinze seize")  # fmt: skip
    low |= {"dix sept": 17, "dix huit": 18, "dix neuf": 19}
    tens = _tens("vingt trente quarante cinquante soixante") | {"quatre vingt": 80}
    ones = {"et un": 1} | {word: value for word, value in low.items() if value < 10}
    teens = {word: value for word, value in low.items() if 10 <= value < 17}
    both = _joined("{t} {o}", tens, ones) | _joined("{t} {o}", {"soixante": 60, "quatre vingt": 80},
                                                    teens)  # fmt: skip
    several = {word: value for word, value in ones.items() if value > 1}
    high = _times("{o} cents", several, 100) | {"cent": 100}
    high |= _times("{o} mille", several, 1000) | {"mille": 1000}
    return {**low, **tens, **both, **high, "quatre vingts": 80, "douzaine": 12,
            "demi douzaine": 6}  # fmt: skip


def _spanish() -> dict[str, int]:
    low = _words(2, "dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce "
                    "quince dieciséis diecisiete dieciocho diecinueve veinte veintiuno veintidós "
                    "veintitrés veinticuatro veinticinco veintiséis veintisiete veintiocho "
                    "veintinueve")  # fmt: skip
    tens = _tens("- treinta cuarenta cincuenta sesenta setenta ochenta noventa")
    ones = {"uno": 1, "una": 1} | {word: value for word, value in low.items() if value < 10}
    both = _joined("{t} y {o}", tens, ones)
    high = {"cien": 100, "ciento": 100, "doscientos": 200, "doscientas": 200, "mil": 1000}
    return {**low, **tens, **both, **high, "docena": 12, "media docena": 6, "veintiún": 21}


NUMBERS = {"en": _english(), "de": _german(), "fr": _french(), "es": _spanish()}
"""Values of number words by language; hyphens are written as spaces."""

CJK_DIGITS = "〇零一二两兩三四五六七八九十百千"
VALUES = dict(zip("一二三四五六七八九", range(1, 10), strict=True)) | {"两": 2, "兩": 2}
UNITS = {"十": 10, "百": 100, "千": 1000}
MEASURES = (
    "只隻个個匹本枚人つ名条條张張朵辆輛座头頭颗顆位棵台臺羽冊杯"
    + "軒輪株把件片块塊艘架盏盞瓶根串群双雙対對支幅间間尊艇粒碗盘皿箱束足着"
)
"""Measure words: only before one is a Chinese or Japanese numeral a count, unlike 一起 and 一样."""
KANA = _words(2, "ふたつ みっつ よっつ いつつ むっつ ななつ やっつ ここのつ") | {"ふたり": 2}


def cjk_value(numeral: str) -> int:
    """三 is 3, 十二 is 12, 二十五 is 25, 一百二十 is 120; 两三, two or three, is 0."""
    total, digit, digits = 0, 0, 0
    for sign in numeral:
        if sign in UNITS:
            total += max(digit, 1) * UNITS[sign]
            digit, digits = 0, 0
        else:
            digit, digits = VALUES.get(sign, 0), digits + 1
            if digits > 1 and sign not in "〇零":
                return 0
    return total + digit


GROUPS = {
    2: re.compile(
        r"\b(?:pairs?|couples?|duos?|twins?|both|beide[nrs]?|paar|paare|zwillinge?n?|duo|paires?"
        r"|jumeaux|jumelles|parejas?|un par|dúo|ambos|ambas|gemelos|gemelas)\b"
        r"|一对|一對|一双|一雙|俩|倆|双胞胎|雙胞胎|ペア|双子|つがい|コンビ"
    ),
    3: re.compile(
        r"\b(?:trios?|triplets?|threesome|tríos?|drilling\w*|triplés?|trillizos)\b|三つ子|仨|トリオ"
    ),
    4: re.compile(r"\b(?:quartets?|quadruplets?|quartette?|quatuors?|cuartetos?)\b|カルテット"),
    5: re.compile(r"\b(?:quintets?|quintette?s?|quintetos?)\b"),
    6: re.compile(r"\b(?:sextets?|sextette?s?|sextetos?)\b|半打|半ダース"),
    12: re.compile(r"\b(?:dozens?|dutzend|douzaines?|docenas?)\b|一打|1打|1ダース|一ダース"),
}
"""Other words for a number: a rewrite may use them, but in a brief they require nothing."""


def languages_of(words: Sequence[str]) -> list[str]:
    """The likely languages of a text: those with the most function words; all if there are none."""
    scores = {name: sum(word in known for word in words) for name, known in FUNCTION_WORDS.items()}
    most = max(scores.values())
    return [name for name, score in scores.items() if score == most]


def numbers_said(words: Sequence[str], language: str, sure: bool) -> Iterator[tuple[int, int, int]]:
    """Yield each number in words as its value and the range of its words (start, end).

    The longest reading counts: "twenty five" is neither 20 nor 5. After a noun, "neuf" is new and
    not nine.

    Args:
        words: a text's words in lower case; other tokens may be among them.
        sure: whether the text can only be in this language.
    """
    values = NUMBERS.get(language, {})
    at = 0
    while at < len(words):
        for length in (3, 2, 1):
            phrase = " ".join(words[at : at + length])
            new = phrase == "neuf" and at > 0 and words[at - 1] not in FUNCTION_WORDS["fr"]
            if phrase in values and not new and (sure or phrase not in HOMOGRAPHS):
                yield values[phrase], at, at + length
                at += length - 1
                break
        at += 1
