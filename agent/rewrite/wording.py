"""What a text says, as far as a guard can tell without understanding: words, groups, relations.

A text is cut into groups of words that belong together ("a big dog", "three white tulips"), joined
by directed relations. Words are stems with one spelling for synonyms; counts and colours are words
of their group, "#3" and "red".
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from promptprobe.agent.rewrite import vocabulary as v
from promptprobe.agent.rewrite.words import (
    Phrase,
    looks_like_verb,
    media_of,
    phrases,
    singular,
    stem,
    take_locked,
    words_of,
)

STYLE_OF = re.compile(r"\bin the style of (?:\w+[ -]?){1,4}")
NEVER_OBJECT = frozenset({"relation", "trailing", "separator", "end", "with"})
"""Roles after which a verb has no object: "a dog sitting on"."""
END: Phrase = ("", "end", "")
Group = frozenset[str]


@dataclass(frozen=True)
class Reader:
    """How a text is to be read."""

    required: frozenset[str] = frozenset()
    """Words that are content although a rewrite may add them."""
    verbs: frozenset[str] = frozenset()
    """Stems known to be verbs: "chases" is no plural."""
    is_brief: bool = False
    """In what the user asked for, harmless words say something too."""
    style_of: bool = False
    """Whether "in the style of X" is content."""

    def may_be_added(self, phrase: str, role: str, word: str, after: str) -> bool:
        """Whether a word of a rewrite asks for nothing new."""
        if self.is_brief or word in self.required:
            return False
        adverb = phrase.endswith("ly") and phrase not in v.NOT_ADVERBS
        return role == "harmless" or (role == "word" and (adverb or after in v.STYLE_HEADS))

    def is_verb(self, phrase: str, role: str) -> bool:
        return role == "word" and (looks_like_verb(phrase) or stem(phrase) in self.verbs)


@dataclass(frozen=True)
class Relation:
    """`name` holds from any word of `first` to any of `second`."""

    name: str
    first: Group
    second: Group


@dataclass(frozen=True)
class Wording:
    """What a text says."""

    groups: tuple[Group, ...]
    words: tuple[str, ...]
    """Every content word with repetitions, counts and colours included."""
    relations: tuple[Relation, ...]
    possible: tuple[Relation, ...]
    """"A with B": B may turn out to be in A, on A or worn by A."""
    negated: tuple[str, ...]
    media: frozenset[str]
    locked: frozenset[str]
    """Quoted text and <tags>, as they are written."""


@dataclass
class _Building:
    """A text being read: groups so far; relations as (name, swapped, number of groups before)."""

    groups: list[set[str]] = field(default_factory=lambda: [set()])
    words: list[str] = field(default_factory=list)
    relations: list[tuple[str, bool, int]] = field(default_factory=list)
    trailing: list[tuple[str, bool, int]] = field(default_factory=list)
    possible: list[int] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)
    negated: list[str] = field(default_factory=list)
    negating: bool = False

    def cut(self) -> int:
        """Begin a new group; returns its number."""
        if self.groups[-1]:
            self.groups.append(set())
        return len(self.groups) - 1

    def add(self, word: str) -> None:
        self.groups[-1].add(word)
        self.words.append(word)
        if self.negating:
            self.negated.append(word)
            self.negating = False


def parse(text: str, reader: Reader) -> Wording:
    """Read a text."""
    locked, plain = take_locked(text)
    media: set[str] = set()
    if not reader.style_of:
        media = {medium for style in STYLE_OF.findall(plain) for medium in media_of(style)}
        plain = STYLE_OF.sub(" ", plain)
    tokens = list(phrases(words_of(plain)))
    media |= {value for _, role, value in tokens if role == "medium"}
    found = _Building()
    for before, token, after in zip([END, *tokens], tokens, [*tokens[1:], END], strict=False):
        _read(found, reader, before, token, after)
    return _finish(found, frozenset(media), locked)


def _read(found: _Building, reader: Reader, before: Phrase, token: Phrase, after: Phrase) -> None:
    phrase, role, value = token
    if role in ("harmless", "word", "colour", "count"):
        word = stem(phrase) if role == "harmless" else value
        if reader.is_verb(phrase, role):
            _read_verb(found, stem(phrase), before, after)
        elif not reader.may_be_added(phrase, role, word, after[0]):
            found.add(word)
            if role == "word" and _is_plural(phrase, reader.verbs):
                _count_many(found)
    elif role == "negation":
        found.negating = True
    elif role not in ("drop", "medium"):
        _join(found, role, value, after)


def _read_verb(found: _Building, verb: str, before: Phrase, after: Phrase) -> None:
    """ "a dog chasing a cat" relates; "a running dog" and "a dog sitting on" describe."""
    describes = before is END or before[0] in ("a", "an", "the")
    if after[0] == "by":
        found.relations.append((verb, True, found.cut()))
    elif not describes and after[1] not in NEVER_OBJECT:
        found.relations.append((verb, False, found.cut()))
    else:
        found.groups[-1].add(verb)
    found.words.append(verb)


def _is_plural(phrase: str, verbs: frozenset[str]) -> bool:
    return " " not in phrase and singular(phrase) != phrase and stem(phrase) not in verbs


def _count_many(found: _Building) -> None:
    if not any(word.startswith("#") for word in found.groups[-1]):
        found.add("#many")


def _join(found: _Building, role: str, value: str, after: Phrase) -> None:
    """What stands between groups."""
    name, swap = value.removesuffix("~"), value.endswith("~")
    if role == "relation" and name == "in" and after[1] == "colour":
        return  # "a car in red"
    at = found.cut()
    if role == "relation":
        found.relations.append((name, swap, at))
    elif role == "trailing":
        found.trailing.append((name, swap, at - 1))
    elif role == "place":
        found.places[name] = at
    elif role == "with":
        found.possible.append(at)


def _finish(found: _Building, media: frozenset[str], locked: frozenset[str]) -> Wording:
    groups = [frozenset(group) for group in found.groups]
    possible = [Relation("with", _union(groups[:at]), groups[at]) for at in found.possible]
    return Wording(
        groups=tuple(group for group in groups if group),
        words=tuple(found.words),
        relations=tuple(r for r in _relations(found, groups) if r.first and r.second),
        possible=tuple(r for r in possible if r.first and r.second),
        negated=tuple(sorted(found.negated)),
        media=media,
        locked=locked,
    )


def _relations(found: _Building, groups: list[Group]) -> list[Relation]:
    relations = []
    for name, swap, at in found.relations:
        before = _union(groups[:at]) or _union(groups[at + 1 :])  # "in a park, two people"
        relations.append(_relation(name, swap, before, groups[at]))
    for name, swap, at in found.trailing:
        if at >= 0:
            relations.append(_relation(name, swap, groups[at], _union(groups[:at])))
    for name, one, other in (("left", "left", "right"), ("above", "top", "bottom")):
        if one in found.places and other in found.places:
            first, second = (_place(groups, found.places, side) for side in (one, other))
            relations.append(Relation(name, first, second))
    return relations


def _place(groups: list[Group], places: dict[str, int], side: str) -> Group:
    """The group that a place belongs to: the next one, or the one before where it ends a clause."""
    at = places[side]
    leads = min(places.values()) == 0
    return groups[at] if leads else groups[at - 1]


def _relation(name: str, swap: bool, first: Group, second: Group) -> Relation:
    return Relation(name, second, first) if swap else Relation(name, first, second)


def _union(groups: list[Group]) -> Group:
    return frozenset().union(*groups)
