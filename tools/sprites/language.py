"""The language of the Sprites world: scenes to wordings, and wordings back to scenes.

Plain wordings are common; synonyms, other word orders, and casual and ornate wordings are rarer, so
the image model knows them less well and phrasing matters, as it does for real models.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal, cast, get_args

import numpy as np

from promptprobe.tools.sprites.world import Relation, Scene, Thing

Style = Literal["plain", "casual", "ornate"]
STYLES: dict[Style, float] = {"plain": 0.84, "casual": 0.09, "ornate": 0.07}
SYNONYM: dict[Style, float] = {"plain": 0.03, "casual": 0.3, "ornate": 0.5}
"""How often a rarer word is used for a noun or colour."""

NOUN_WORDS: dict[str, tuple[str, ...]] = {
    "bird": ("bird", "birdie", "songbird"),
    "car": ("car", "automobile", "auto", "sedan"),
    "cat": ("cat", "kitty", "kitten", "feline"),
    "fish": ("fish", "goldfish", "minnow"),
    "heart": ("heart", "valentine"),
    "house": ("house", "home", "cottage"),
    "key": ("key", "latchkey"),
    "moon": ("moon", "crescent"),
    "mushroom": ("mushroom", "toadstool", "fungus"),
    "star": ("star", "pentagram"),
    "tree": ("tree", "oak"),
    "umbrella": ("umbrella", "parasol", "brolly"),
}
COLOUR_WORDS: dict[str, tuple[str, ...]] = {
    "red": ("red", "scarlet", "crimson"),
    "orange": ("orange", "tangerine", "amber"),
    "yellow": ("yellow", "golden", "lemon"),
    "green": ("green", "emerald", "olive"),
    "blue": ("blue", "navy", "azure"),
    "purple": ("purple", "violet", "mauve"),
    "black": ("black", "ebony", "jet"),
}
COUNT_WORDS: dict[int, tuple[str, ...]] = {
    2: ("two", "2", "a pair of", "a couple of"),
    3: ("three", "3", "a trio of"),
    4: ("four", "4", "a quartet of"),
}
PLURALS = {"fish": "fish", "goldfish": "goldfish", "fungus": "fungi"}

FRAMES: dict[Style, tuple[str, ...]] = {
    "plain": ("{}", "{}", "a photo of {}", "a picture of {}", "an image of {}"),
    "casual": ("just {}", "{} please", "can you draw {}", "gimme {}", "i want {}", "show me {}"),
    "ornate": (
        "a beautiful rendering of {}",
        "behold, {} upon a pale ground",
        "a masterful depiction of {}",
        "{}, serene and finely drawn",
        "a lovely illustration that portrays {}",
    ),
}
TOGETHER: dict[Style, tuple[str, ...]] = {
    "plain": ("{} and {}",),
    "casual": ("{} with {}", "{} plus {}", "{} next to {}", "{} beside {}"),
    "ornate": ("{} accompanied by {}", "{} in the company of {}", "{} together with {}"),
}
# {0} is left of, or above, {1}.
RELATED: dict[Relation, dict[Style, tuple[str, ...]]] = {
    "left of": {
        "plain": (
            "{0} left of {1}", "{0} to the left of {1}",
            "{1} right of {0}", "{1} to the right of {0}",
        ),
        "casual": (
            "{0} on the left of {1}", "{1} with {0} on its left", "{0} with {1} on its right",
        ),
        "ornate": ("{0} situated to the left of {1}", "{1} placed to the right of {0}"),
    },
    "above": {
        "plain": ("{0} above {1}", "{1} below {0}"),
        "casual": ("{0} over {1}", "{1} under {0}", "{0} on top of {1}", "{1} beneath {0}"),
        "ornate": ("{0} hovering above {1}", "{1} resting beneath {0}"),
    },
}  # fmt: skip

Says = tuple[str, Any]
LEFT, RIGHT, ABOVE, BELOW = ("left of", False), ("left of", True), ("above", False), ("above", True)
PHRASES: dict[str, Says] = {
    "on its left": ("trailing", LEFT), "on its right": ("trailing", RIGHT),
    "to its left": ("trailing", LEFT), "to its right": ("trailing", RIGHT),
    "situated to the left of": ("relation", LEFT), "placed to the left of": ("relation", LEFT),
    "situated to the right of": ("relation", RIGHT), "placed to the right of": ("relation", RIGHT),
    "to the left of": ("relation", LEFT), "on the left of": ("relation", LEFT),
    "to the right of": ("relation", RIGHT), "on the right of": ("relation", RIGHT),
    "left of": ("relation", LEFT), "right of": ("relation", RIGHT),
    "hovering above": ("relation", ABOVE), "above": ("relation", ABOVE),
    "over": ("relation", ABOVE), "on top of": ("relation", ABOVE), "atop": ("relation", ABOVE),
    "resting beneath": ("relation", BELOW), "beneath": ("relation", BELOW),
    "below": ("relation", BELOW), "under": ("relation", BELOW), "underneath": ("relation", BELOW),
    "accompanied by": ("and", None), "in the company of": ("and", None),
    "together with": ("and", None), "next to": ("and", None), "beside": ("and", None),
    "alongside": ("and", None), "plus": ("and", None), "with": ("and", None), "and": ("and", None),
    "that is": ("after", None), "that are": ("after", None), "in": ("after", None),
    "colored": ("filler", None), "coloured": ("filler", None),
}  # fmt: skip
FILLER = frozenset(
    "a an the of just please can you draw gimme i want show me photo picture image beautiful"
    " rendering behold upon on pale ground masterful depiction serene finely drawn lovely"
    " illustration that"
    " portrays is are there one single exactly only".split()
)
NEGATIONS = frozenset("no not without never none except instead".split())


@dataclass(frozen=True)
class Reading:
    """The meaning of a text in this language."""

    scene: Scene | None
    """None if the text names no scene of this world."""
    unknown: tuple[str, ...]
    """Words that the image model was never trained on, in order of appearance."""
    problem: str
    """Why there is no scene; empty if there is one."""


# -- scenes to wordings ------------------------------------------------------------------------


def word(scene: Scene, rng: np.random.Generator, style: Style | None = None) -> str:
    """One wording of a scene, drawn with the natural frequencies of the language."""
    style = style or rng.choice(list(STYLES), p=list(STYLES.values()))
    things = [noun_phrase(thing, rng, style) for thing in scene.things]
    if len(things) == 2:
        if scene.relation:
            body = _pick(RELATED[scene.relation][style], rng).format(*things)
        else:
            body = _pick(TOGETHER[style], rng).format(*(things[i] for i in rng.permutation(2)))
    else:
        body = things[0]
    return _pick(FRAMES[style], rng).format(body)


def noun_phrase(thing: Thing, rng: np.random.Generator, style: Style = "plain") -> str:
    """ "a red cat", "three kitties", "a cat that is scarlet"."""
    noun = _common_or_rare(NOUN_WORDS[thing.noun], rng, style)
    colour = _common_or_rare(COLOUR_WORDS[thing.colour], rng, style) if thing.colour else ""
    if thing.count > 1:
        count = COUNT_WORDS[thing.count][
            0 if style == "plain" else rng.integers(len(COUNT_WORDS[thing.count]))
        ]
        return " ".join(filter(None, [count, colour, plural(noun)]))
    if colour and style != "plain" and rng.random() < 0.4:
        return f"{_article(noun)} {noun} {_pick(('that is', 'in'), rng)} {colour}"
    words = " ".join(filter(None, [colour, noun]))
    return f"{_article(words)} {words}"


def plural(noun: str) -> str:
    if noun in PLURALS:
        return PLURALS[noun]
    return noun[:-1] + "ies" if noun.endswith(("ty", "ly")) else noun + "s"


def _article(words: str) -> str:
    return "an" if words[0] in "aeiou" else "a"


def _pick(options: Sequence[str], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]


def _common_or_rare(words: tuple[str, ...], rng: np.random.Generator, style: Style) -> str:
    return words[rng.integers(1, len(words))] if rng.random() < SYNONYM[style] else words[0]


# -- wordings to scenes ------------------------------------------------------------------------


@cache
def lexicon() -> dict[str, Says]:
    """Every word or fixed phrase of the language, with its role and value."""
    words: dict[str, Says] = dict.fromkeys(FILLER, ("filler", None))
    words |= dict.fromkeys(NEGATIONS, ("negation", None))
    words |= {"oak tree": ("noun", ("tree", 1)), "crescent moon": ("noun", ("moon", 1))}
    for noun, names in NOUN_WORDS.items():
        for name in names:
            words[plural(name)] = ("noun", (noun, 2))
            words[name] = ("noun", (noun, 1))  # "fish" may be one
    words |= {name: ("colour", colour) for colour, names in COLOUR_WORDS.items() for name in names}
    for count, names in COUNT_WORDS.items():
        words |= {name.removeprefix("a "): ("count", count) for name in names}
    return words | PHRASES


def tokens(text: str) -> list[tuple[str, Says]]:
    """Words of a text by longest match; a word that the lexicon lacks is ("unknown", None)."""
    words = re.findall(r"[^\W_]+(?:['’-][^\W_]+)*", text.lower())
    known, found, at = lexicon(), [], 0
    while at < len(words):
        for length in range(min(5, len(words) - at), 0, -1):
            phrase = " ".join(words[at : at + length])
            if phrase in known or length == 1:
                found.append((phrase, known.get(phrase, ("unknown", None))))
                at += length
                break
    return found


def read(text: str) -> Reading:
    """The scene that a text asks for. Unknown words are listed; negations are not understood."""
    found = tokens(text)
    unknown = tuple(dict.fromkeys(phrase for phrase, (role, _) in found if role == "unknown"))
    try:
        return Reading(_scene(found), unknown, "")
    except ValueError as problem:
        return Reading(None, unknown, str(problem))


def _scene(found: list[tuple[str, Says]]) -> Scene:
    """Left to right: counts and colours wait for their noun; "in red" colours the last one."""
    things: list[Thing] = []
    relation: tuple[Relation, bool] | None = None
    count, colour, after = 1, None, False
    for phrase, (role, value) in found:
        if role == "negation":
            raise ValueError(f"it says {phrase!r}, but this model cannot draw an absence")
        if role == "count":
            count = value
        elif role == "colour" and after and things and not things[-1].colour:
            things[-1] = replace(things[-1], colour=value)
        elif role == "colour":
            if colour:
                raise ValueError(f"it gives one thing two colours, {colour} and {value}")
            colour = value
        elif role == "noun":
            noun, least = value
            if least > count:
                raise ValueError(f"it does not say how many {phrase}")
            things.append(Thing(noun, colour, count))
            count, colour = 1, None
        elif role in ("relation", "trailing"):
            if relation:
                raise ValueError("it relates more than two things")
            relation = (value[0], value[1] != (role == "trailing"))
        after = role == "after"
    if colour or count > 1:
        raise ValueError(f"{colour or count} describes nothing")
    return _checked(things, relation)


def _checked(things: list[Thing], relation: tuple[Relation, bool] | None) -> Scene:
    if not things:
        raise ValueError("it names nothing that this model can draw")
    if len(things) > 2:
        raise ValueError(f"it asks for {len(things)} things, but this model draws one or two")
    if relation is None:
        return Scene(tuple(things)).canonical
    if len(things) == 1 or things[0].count + things[1].count > 2:
        raise ValueError("a relation needs exactly two single things")
    return Scene(tuple(reversed(things)) if relation[1] else tuple(things), relation[0])


# -- which word asks for what ------------------------------------------------------------------

Role = Literal["noun", "colour", "count", "relation"]


@dataclass(frozen=True)
class Requirement:
    """A word of a text and what it asks for."""

    word: str
    """The word as it is in the text, in lower case."""
    role: Role
    noun: str
    """The noun whose colour or number it is; empty for a relation, which concerns both."""


def requirements_of(text: str) -> list[Requirement]:
    """The words of a text that ask for something, in order; filler words are left out."""
    found = tokens(text)
    nouns = [value[0] for _, (role, value) in found if role == "noun"]
    asked: list[Requirement] = []
    seen, after = 0, False
    for phrase, (role, _) in found:
        words = phrase.split()
        if role in ("relation", "trailing"):
            asked += [Requirement(word, "relation", "") for word in words]
        elif role in get_args(Role):
            back = role == "colour" and after and seen > 0  # "a cat in red"
            noun = nouns[min(seen - back, len(nouns) - 1)] if nouns else ""
            asked += [Requirement(word, cast(Role, role), noun) for word in words]
            seen += role == "noun"
        after = role == "after"
    return asked
