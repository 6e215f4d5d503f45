"""Text that a brief puts in quotes, and text that is read in an image."""

from __future__ import annotations

import pytest
from PIL import Image, ImageDraw, ImageFont

from promptprobe.tools.scorers.ocr import compared, quoted
from promptprobe.tools.scorers.scorer import open_scorer

BRIEF = 'a shop sign that says "OPEN LATE"'


def sign(text: str) -> Image.Image:
    image = Image.new("RGB", (320, 120), "white")
    ImageDraw.Draw(image).text((30, 40), text, fill="black", font=ImageFont.load_default(36))
    return image


def test_texts_in_quotes_of_every_kind_are_asked_for() -> None:
    assert quoted("“A b” and «C», „D“ or 「店」 and 'it' but not the cat's or dogs' own") == [
        "A b", "C", "D", "店", "it",
    ]  # fmt: skip


def test_letters_count_and_case_white_space_and_lines_do_not() -> None:
    right = compared(["Open Late"], ["the shop", "OPEN", "late", "tel 12"])
    assert right.correct is True
    near = compared(["OPEN"], ["OPEM"])
    assert (near.value, near.correct) == (0.75, False)
    half = compared(["OPEN", "shut"], ["OPEN"])
    assert [(verdict.word, verdict.ok) for verdict in half.words] == [
        ("OPEN", True),
        ("shut", False),
    ]


def test_rendered_text_is_right_wrong_or_missing() -> None:
    pytest.importorskip("rapidocr", reason="needs promptprobe[ocr]")
    right, wrong, missing = open_scorer("ocr")(
        BRIEF, [sign("OPEN LATE"), sign("OPEM LATE"), sign("")]
    )
    assert (right.value, right.correct) == (1.0, True)
    assert wrong.value == pytest.approx(7 / 8)
    assert (missing.value, missing.correct) == (0.0, False)
    assert "read 'OPEM LATE'" in wrong.explanation


def test_a_brief_that_asks_for_no_text_ends_a_run_before_it_starts() -> None:
    pytest.importorskip("rapidocr", reason="needs promptprobe[ocr]")
    with pytest.raises(ValueError, match="the brief asks for no text"):
        open_scorer("ocr").check("a red cat")
