"""Line breaks in a prompt: each text encoder reads them as it does in the official pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from promptprobe.probe.families import family_of
from promptprobe.tools.models.model import open_toolbox
from promptprobe.tools.records import Candidate, Generation
from tests import tiny
from tests.images import brightness, read_exact
from tests.probe.pipelines import SETTINGS, fit

ONE_LINE, LINES = "a red cat a blue dog", "a red cat\na blue dog"
READ_THEM = ("klein", "qwen", "z_image", "sana")
"""Language models; CLIP and T5 read a line break as a space."""


@pytest.mark.parametrize("name", tiny.PIPELINES)
def test_line_breaks_reach_the_encoders_that_read_them(fresh_pipeline: Any, name: str) -> None:
    pipeline = fresh_pipeline(name)
    family, settings = family_of(pipeline), fit(pipeline, SETTINGS)
    one, two = (family.encode([text], settings) for text in (ONE_LINE, LINES))
    same = one.embeddings.shape == two.embeddings.shape and torch.equal(
        one.embeddings, two.embeddings
    )
    assert same == (name not in READ_THEM)
    words = [[span.word for span in found.words[0]] for found in (one, two)]
    assert words[0] == words[1] and "dog" in words[1]


def test_a_picture_keeps_the_line_breaks_of_its_prompt(ddim_folder: Path, tmp_path: Path) -> None:
    toolbox = open_toolbox(ddim_folder, Generation(steps=2), brightness)
    (drawn,) = toolbox.render([Candidate(prompt=LINES, seed=1)], [None], tmp_path)
    assert drawn.image is not None
    assert read_exact(drawn.image)[0].prompt == LINES
