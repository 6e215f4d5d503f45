"""Does a rewrite still mean the brief? What does not never costs a denoising step.

Where both texts are wholly in a built-in model's language, its own reading decides. Elsewhere a
lexical guard does: no content word, count, colour, negation, medium or locked text may be dropped
or added, attributes stay with their things and relations keep their direction, while quality,
light, lens, mood and synonyms pass. It knows English only; in doubt it refuses, and says why.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence

from pydantic import Field

from promptprobe.agent.rewrite.vocabulary import ANY_MEDIUM, COLOURS
from promptprobe.agent.rewrite.wording import Reader, Relation, Wording, parse
from promptprobe.agent.rewrite.words import times, verbs_of
from promptprobe.tools.records import MAX_TEXT, Record

LOOSE = frozenset({("wear", "in"), ("in", "wear")})
"""Relations that say the same: a girl wearing a coat, a girl in a coat."""
IMPLIED = frozenset({"in", "on"})
"""What "a vase with tulips" may become: tulips in a vase."""


class Requirement(Record):
    """Something the brief asks for, in the brief's own words."""

    kind: str = Field(max_length=40)
    text: str = Field(max_length=400, description="a phrase of the brief")


class Claim(Record):
    """Where a rewrite says a requirement."""

    requirement: str = Field(max_length=400)
    phrase: str = Field(max_length=400, description="a phrase of the rewrite")


def check_text(text: object, what: str) -> str:
    """A prompt or brief, stripped.

    Raises:
        ValueError: not text, empty, too long, or with control characters.
    """
    if not isinstance(text, str):
        raise ValueError(f"{what} must be text, got {type(text).__name__}: {text!r:.60}")
    stripped = text.strip()
    if not stripped:
        raise ValueError(f"{what} is empty: say in a few words what the picture should show")
    if len(stripped) > MAX_TEXT:
        raise ValueError(
            f"{what} must have at most {MAX_TEXT} characters, got {len(stripped)}: shorten it "
            "(image models read less than a hundred words)"
        )
    bad = next(
        (c for c in stripped if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t\r"), None
    )
    if bad is not None:
        raise ValueError(
            f"{what} must be text, got the control character U+{ord(bad):04X} in it: "
            "is this a binary file? Give plain text (UTF-8)"
        )
    return stripped


def no_reading(_brief: str, _rewrite: str) -> None:
    """Most models have no reading of their own."""


def check_rewrite(
    brief: str,
    rewrite: str,
    keep: Sequence[str] = (),
    own: Callable[[str, str], str | None] = no_reading,
) -> str:
    """Why a rewrite no longer means the brief; empty where it does.

    Args:
        own: a built-in model's own reading of both, which decides where it is not None.
    """
    try:
        check_text(rewrite, "a rewrite")
    except ValueError as problem:
        return str(problem)
    for text in keep:
        if text not in rewrite:
            return f"it must keep {text!r} verbatim"
    found = own(brief, rewrite)
    return _check_wording(brief, rewrite) if found is None else found


def check_claims(requirements: Sequence[Requirement], rewrite: str, claims: Sequence[Claim]) -> str:
    """Why a rewrite does not show that it meets each requirement; empty where it does."""
    quoted = {_plain(c.requirement): _plain(c.phrase) for c in claims}
    for requirement in requirements:
        phrase = quoted.get(_plain(requirement.text))
        if not phrase:
            return f"it does not say where it meets {requirement.text!r}"
        if phrase not in _plain(rewrite):
            return f"it quotes {phrase!r} for {requirement.text!r}, which it does not hold"
    return ""


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


# -- the lexical guard -------------------------------------------------------------------------


def _check_wording(brief: str, rewrite: str) -> str:
    verbs = verbs_of(brief) | verbs_of(rewrite)
    style_of = "style of" in brief.lower()
    asked = parse(brief, Reader(verbs=verbs, is_brief=True, style_of=style_of))
    said = parse(rewrite, Reader(frozenset(asked.words), verbs, style_of=style_of))
    return (
        _locked(asked, said)
        or _words(asked, said)
        or _media(asked, said)
        or _pairing(asked, said)
        or _relations(asked, said)
    )


def _locked(asked: Wording, said: Wording) -> str:
    if missing := asked.locked - said.locked:
        return f"it must keep {min(missing)!r} verbatim"
    if added := said.locked - asked.locked:
        return f"it adds the text {min(added)!r}"
    return ""


def _words(asked: Wording, said: Wording) -> str:
    if asked.negated != said.negated:
        changed = set(asked.negated) ^ set(said.negated)
        return f"it changes what is negated: {', '.join(sorted(changed)) or 'how often'}"
    wanted, given = Counter(asked.words), Counter(said.words)
    if missing := wanted - given:
        return f"it drops {_names(missing)}"
    known = set(wanted)
    more = {word for word in filter(_exact, given) if given[word] > wanted[word]}
    if added := set(given) - known | more:
        return f"it adds {_names(added)}"
    return ""


def _media(asked: Wording, said: Wording) -> str:
    wanted = asked.media - {ANY_MEDIUM}
    if missing := wanted - {"photo"} - said.media:
        return f"it drops the medium {_names(missing)}"
    if wanted and (added := said.media - {ANY_MEDIUM} - wanted):
        return f"it adds the medium {_names(added)}"
    return ""


def _pairing(asked: Wording, said: Wording) -> str:
    """Attributes stay with their things: no word leaves its group for another's."""
    if Counter(asked.groups) == Counter(said.groups):
        return ""
    twice = [word for word, n in Counter(w for g in asked.groups for w in g).items() if n > 1]
    if twice:
        return f"it pairs {_names(twice)} with other words than the brief does"
    home = {word: group for group in asked.groups for word in group}
    for group in said.groups:
        homes = {home[word] for word in group if word in home}
        if len(homes) > 1 and (torn := [h for h in homes if not h <= group]):
            return f"it pairs {_names(group)}, which the brief does not: {_names(torn[0])}"
        for word in filter(_exact, group & home.keys()):
            if len(home[word]) > 1 and len(asked.groups) > 1 and not (group - {word}) & home[word]:
                return f"it does not say what is {word}"
    return ""


def _relations(asked: Wording, said: Wording) -> str:
    for relation in map(_bare, asked.relations):
        if relation and not any(_same(relation, other) for other in said.relations):
            return f"it does not keep the relation {_tell(relation)}"
    allowed = [*asked.relations, *_implied(asked)]
    for relation in map(_bare, said.relations):
        if relation and not any(_same(other, relation) for other in allowed):
            return f"it adds the relation {_tell(relation)}"
    return ""


def _bare(relation: Relation) -> Relation | None:
    """Without those that only tell the time, which no rewrite gets wrong by moving them."""
    return None if relation.second <= times() or relation.first <= times() else relation


def _same(one: Relation, other: Relation) -> bool:
    if one.name != other.name and (one.name, other.name) not in LOOSE:
        return False
    first, second = one.first - one.second, one.second - one.first
    return bool((first or one.first) & other.first and (second or one.second) & other.second)


def _implied(asked: Wording) -> list[Relation]:
    return [
        relation
        for it in asked.possible
        for relation in (
            *(Relation(name, it.second, it.first) for name in sorted(IMPLIED)),
            Relation("wear", it.first, it.second),
        )
    ]


def _exact(word: str) -> bool:
    """Counts and colours: said as often as in the brief, and of the same thing."""
    return word.startswith("#") or word in COLOURS


def _tell(relation: Relation) -> str:
    return f"{relation.name!r} between {_names(relation.first)} and {_names(relation.second)}"


def _names(words: object) -> str:
    return ", ".join(sorted(words))  # type: ignore[call-overload]
