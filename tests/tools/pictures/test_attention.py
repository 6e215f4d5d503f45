"""What each word looked at is kept beside a preview and read back, unless it was tampered with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from promptprobe.tools.pictures.attention import (
    ABOUT,
    MOST_WORDS,
    SUFFIX,
    attention_of,
    save_attention,
)
from tests.tools.pictures.test_heatmaps import planted


def test_maps_come_back_as_they_were_on_one_scale(tmp_path: Path) -> None:
    trace = planted(("red", "cat"), [(3, 12), (13, 2)])
    trace.maps[0, 0] *= 0.5
    save_attention(tmp_path, ["one-5"], trace)
    found = attention_of(tmp_path / "one-5.webp")
    assert found is not None
    assert found.peak == pytest.approx(float(trace.maps.max()))
    assert np.abs(found.maps - trace.maps[0, :, 0].numpy()).max() <= found.peak / 255
    quiet, loud = found.over(Image.new("RGB", (64, 64), "white"), found.peak)
    assert np.asarray(quiet).max() < np.asarray(loud).max()


def test_a_long_prompt_keeps_its_first_words_in_little_space(tmp_path: Path) -> None:
    words = tuple(f"word{number}" for number in range(100))
    save_attention(tmp_path, ["long-5"], planted(words, [(3, 4)] * len(words)))
    found = attention_of(tmp_path / "long-5.webp")
    assert found is not None and len(found.maps) == MOST_WORDS
    assert (tmp_path / f"long-5{SUFFIX}").stat().st_size < 24 * 2**10


def test_nothing_is_kept_of_attention_that_is_nowhere(tmp_path: Path) -> None:
    trace = planted(("cat",), [(3, 4)])
    save_attention(None, ["none-5"], trace)
    trace.maps.zero_()
    save_attention(tmp_path, ["none-5"], trace)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "said",
    ["", "[]", '{"words": 0, "peak": 0.5}', '{"words": 3, "peak": 0.5}',
     '{"words": 2, "peak": 1e9}', '{"words": 2, "peak": "x"}', '{"words": 900, "peak": 0.5}'],
)  # fmt: skip
def test_a_file_that_cannot_be_meant_is_none(said: str, tmp_path: Path) -> None:
    info = PngInfo()
    info.add_text(ABOUT, said)
    Image.new("L", (32, 16)).save(tmp_path / f"one-5{SUFFIX}", pnginfo=info)
    assert attention_of(tmp_path / "one-5.webp") is None
