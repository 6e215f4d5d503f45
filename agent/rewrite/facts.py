"""What code can be certain of in a rewrite, in any language: kept text, quotes, counts, negations.

Everything else that a brief asks for is the LLM's word (llm.py) and, in the end, the score's. A
doubt is no reason to refuse: only what a brief surely says is asked of a rewrite, and a rewrite may
say it in any way ("a pair" for two, "deserted" for "no people").
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from itertools import product

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
    languages = _languages(words)
    for language in languages:
        found |= _spoken(words, NUMBERS.get(language, {}), sure=len(languages) == 1)
    return {number for number in found if number > 1}


def _negates(text: str) -> bool:
    """Whether a text surely negates: "no" is "in the" in Portuguese, "sin" an English noun."""
    bare = _bare(text)
    languages = _languages(re.findall(r"[^\W\d_]+", bare.lower()))
    for word, spoken in NEGATING.items():
        if not spoken & set(languages):
            bare = re.sub(rf"\b{word}\b", " ", bare, flags=re.IGNORECASE)
    return NEGATIONS.search(bare) is not None


def _spoken(words: Sequence[str], values: dict[str, int], sure: bool) -> set[int]:
    """Numbers in words, the longest reading first: "twenty five" is neither 20 nor 5.

    After a noun, "neuf" is new and not nine.
    """
    found: set[int] = set()
    at = 0
    while at < len(words):
        for length in (3, 2, 1):
            phrase = " ".join(words[at : at + length])
            new = phrase == "neuf" and at > 0 and words[at - 1] not in FUNCTION_WORDS["fr"]
            if phrase in values and not new and (sure or phrase not in HOMOGRAPHS):
                found.add(values[phrase])
                at += length - 1
                break
        at += 1
    return found


def _groups(text: str) -> set[int]:
    """Numbers that a text says by other words: a pair, a trio, 一对."""
    bare = _bare(text).lower()
    return {value for value, said in GROUPS.items() if said.search(bare)}


def _languages(words: Sequence[str]) -> list[str]:
    """In which languages a text may be: those with the most function words, all where none has."""
    scores = {name: sum(word in known for word in words) for name, known in FUNCTION_WORDS.items()}
    most = max(scores.values())
    return [name for name, score in scores.items() if score == most]


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


# -- numbers as six languages say them -----------------------------------------------------------

FUNCTION_WORDS: dict[str, frozenset[str]] = {
    "en": frozenset("a an the and with of on in at by is are under over holding".split()),
    "de": frozenset("ein eine einen einem einer der die das den dem und mit auf im am von".split()),
    "fr": frozenset("un une le la les des du et avec sur dans au aux de sous".split()),
    "es": frozenset("un una unos unas el la los las y con sobre en del al de bajo".split()),
    "pt": frozenset("um uma uns umas o os a as do da dos das no na nos nas em com e ao".split()),
}
"""Enough of each language to tell which one a text is in: "once" is eleven in Spanish only."""
HOMOGRAPHS = frozenset(("elf", "once", "dos", "neuf", "cent", "mil"))
"""Numbers in one language and other words in another: they count where the language is plain."""


def _words(first: int, listed: str) -> dict[str, int]:
    return {word: value for value, word in enumerate(listed.split(), first) if word != "-"}


def _tens(listed: str) -> dict[str, int]:
    return {word: 10 * value for word, value in _words(2, listed).items()}


def _english() -> dict[str, int]:
    low = _words(2, "two three four five six seven eight nine ten eleven twelve thirteen fourteen "
                    "fifteen sixteen seventeen eighteen nineteen")  # fmt: skip
    tens = _tens("twenty thirty forty fifty sixty seventy eighty ninety")
    ones = {"one": 1} | {word: value for word, value in low.items() if value < 10}
    both = {f"{t} {o}": tens[t] + ones[o] for t, o in product(tens, ones)}
    high = {f"{o} hundred": 100 * ones[o] for o in ones} | {"a hundred": 100, "hundred": 100}
    high |= {f"{o} thousand": 1000 * ones[o] for o in ones} | {"a thousand": 1000, "thousand": 1000}
    return {**low, **tens, **both, **high, "dozen": 12, "a dozen": 12, "half a dozen": 6,
            "half dozen": 6, "two dozen": 24}  # fmt: skip


def _german() -> dict[str, int]:
    low = _words(2, "zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn "
                    "fünfzehn sechzehn siebzehn achtzehn neunzehn")  # fmt: skip
    tens = _tens("zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig")
    ones = {"ein": 1} | {word: value for word, value in low.items() if value < 10}
    both = {f"{o}und{t}": tens[t] + ones[o] for t, o in product(tens, ones)}
    high = {f"{o}hundert": 100 * ones[o] for o in ones} | {"hundert": 100}
    high |= {f"{o}tausend": 1000 * ones[o] for o in ones} | {"tausend": 1000}
    return {**low, **tens, **both, **high, "zwo": 2, "dutzend": 12, "halbes dutzend": 6}


def _french() -> dict[str, int]:
    low = _words(2, "deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze "
                    "quinze seize")  # fmt: skip
    low |= {"dix sept": 17, "dix huit": 18, "dix neuf": 19}
    tens = _tens("vingt trente quarante cinquante soixante") | {"quatre vingt": 80}
    ones = {"et un": 1} | {word: value for word, value in low.items() if value < 10}
    both = {f"{t} {o}": tens[t] + ones[o] for t, o in product(tens, ones)}
    teens = {word: value for word, value in low.items() if 10 <= value < 17}
    both |= {
        f"{t} {o}": tens[t] + teens[o] for t, o in product(("soixante", "quatre vingt"), teens)
    }
    high = {f"{o} cents": 100 * value for o, value in ones.items() if value > 1} | {"cent": 100}
    high |= {f"{o} mille": 1000 * value for o, value in ones.items() if value > 1} | {"mille": 1000}
    return {**low, **tens, **both, **high, "quatre vingts": 80, "douzaine": 12,
            "demi douzaine": 6}  # fmt: skip


def _spanish() -> dict[str, int]:
    low = _words(2, "dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce "
                    "quince dieciséis diecisiete dieciocho diecinueve veinte veintiuno veintidós "
                    "veintitrés veinticuatro veinticinco veintiséis veintisiete veintiocho "
                    "veintinueve")  # fmt: skip
    tens = _tens("- treinta cuarenta cincuenta sesenta setenta ochenta noventa")
    ones = {"uno": 1, "una": 1} | {word: value for word, value in low.items() if value < 10}
    both = {f"{t} y {o}": tens[t] + ones[o] for t, o in product(tens, ones)}
    high = {"cien": 100, "ciento": 100, "doscientos": 200, "doscientas": 200, "mil": 1000}
    return {**low, **tens, **both, **high, "docena": 12, "media docena": 6, "veintiún": 21}


NUMBERS = {"en": _english(), "de": _german(), "fr": _french(), "es": _spanish()}
"""By language, words with single spaces for hyphens, to values."""

CJK_DIGITS = "〇零一二两兩三四五六七八九十百千"
VALUES = dict(zip("一二三四五六七八九", range(1, 10), strict=True)) | {"两": 2, "兩": 2}
UNITS = {"十": 10, "百": 100, "千": 1000}
MEASURES = (
    "只隻个個匹本枚人つ名条條张張朵辆輛座头頭颗顆位棵台臺羽冊杯"
    + "軒輪株把件片块塊艘架盏盞瓶根串群双雙対對支幅间間尊艇粒碗盘皿箱束足着"
)
"""A Chinese or Japanese numeral counts before a measure word; 一起 and 一样 count nothing."""
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
"""Other ways to say a number, which a rewrite may use and no brief is held to."""
