"""A brief that Sprites cannot draw is refused by the word that it lacks, not by a consequence."""

import pytest

from promptprobe.tools.sprites.briefs import check_brief


@pytest.mark.parametrize(
    ("brief", "named"),
    [
        ("a red bicycle", "bicycle is not one of its twelve things"),
        ("a purple elephant", "elephant is not one of its twelve things"),
        ("a red cat left of a blue bicycle", "bicycle is not one of its twelve things"),
        ("a cat wearing a hat", "hat is not one of its twelve things"),
        ("a shiny new bicycle", "shiny, new and bicycle are none of its twelve things"),
        ("three hundred cats", "hundred is not a number that it can count to"),
        ("12 cats", "12 is not a number that it can count to"),
        ("many keys", "many is not a number that it can count to"),
        ("a red umbrela", r"umbrela is not one of its twelve things (did you mean umbrella?)"),
        ("a spaceship", "spaceship is not one of its twelve things"),
        ("ein Hund", "ein and hund are none of its twelve things"),
        ("قطة حمراء", "قطة and حمراء are none of its twelve things"),
        ("not a cat", "it says 'not', but this model cannot draw an absence"),
        ("a cat, a car and a fish", "it asks for 3 things, but this model draws one or two"),
    ],
)
def test_a_refusal_names_the_word(brief: str, named: str) -> None:
    with pytest.raises(ValueError, match="cannot draw") as refused:
        check_brief(brief)
    assert f"cannot draw {brief!r}: {named}. It draws bird, car" in str(refused.value)


@pytest.mark.parametrize(
    ("brief", "unread"),
    [
        ("a fluffy red cat", "fluffy"),
        ("a photo of a cat, 4k, highly detailed", "4k, highly and detailed"),
        ("a cat in the rain", "rain"),
        ("1 cat", "1"),
    ],
)
def test_words_that_name_no_thing_are_read_over_and_told(brief: str, unread: str) -> None:
    [warning] = check_brief(brief)
    assert f"ignores words that it does not know: {unread}. It" in warning


@pytest.mark.parametrize("brief", ["a scarlet kitty next to a navy automobile", "two red keys"])
def test_nothing_is_said_of_a_brief_in_its_language(brief: str) -> None:
    assert check_brief(brief) == []
