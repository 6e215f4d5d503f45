from __future__ import annotations

import ast
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from promptprobe.tools.models.model import open_toolbox
from promptprobe.tools.pictures.png import (
    parameters,
    read_finished,
    save_png,
    snippet,
    thumbnail,
)
from promptprobe.tools.records import IN_MEMORY, CallArguments, Candidate, Generation
from tests import tiny
from tests.images import read_exact, read_parameters

USED = Generation(
    steps=25, guidance=3.0, height=64, width=96, negative_prompt="", dtype="float32", device="cpu"
)


def picture(side: int = 8) -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    return Image.fromarray(noise)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image).astype(int)


def test_parameters_are_written_the_way_the_web_ui_writes_them():
    used = USED.model_copy(update={"negative_prompt": "blurry, dull"})
    written = parameters(Candidate(prompt="a red cat", seed=7), used, "PNDMScheduler", "sprites")
    assert written == (
        "a red cat\n"
        "Negative prompt: blurry, dull\n"
        "Steps: 25, Sampler: PLMS, CFG scale: 3, Seed: 7, Size: 96x64, Model: sprites"
    )


@pytest.mark.parametrize(
    ("scheduler", "config", "written"),
    [
        (
            "DPMSolverMultistepScheduler",
            {"use_karras_sigmas": True, "algorithm_type": "sde-dpmsolver++", "solver_order": 3},
            "Sampler: DPM++ 3M SDE, Schedule type: Karras,",
        ),
        ("DPMSolverMultistepScheduler", {"solver_order": 2}, "Sampler: DPM++ 2M, CFG"),
        (
            "EulerDiscreteScheduler",
            {"use_karras_sigmas": False, "use_exponential_sigmas": True},
            "Sampler: Euler, Schedule type: Exponential,",
        ),
    ],
)
def test_sampler_and_schedule_go_by_the_web_ui_s_names(
    scheduler: str, config: dict[str, Any], written: str
):
    candidate = Candidate(prompt="a", seed=1)
    assert written in parameters(candidate, USED, scheduler, "m", config)


def test_a_saved_picture_keeps_its_pixels_and_says_how_it_was_made(tmp_path: Path):
    candidate = Candidate(prompt="ein Kätzchen 🐈 قطة", seed=2**53 - 1)
    used = USED.model_copy(update={"negative_prompt": "two\nlines"})
    saved = save_png(
        picture(), tmp_path / "a.png", candidate, used, "DDIMScheduler", "/home/me/sd, 1"
    )
    read = read_parameters(saved)
    assert read["prompt"] == candidate.prompt
    assert read["negative_prompt"] == "two lines"
    assert (read["Seed"], read["Sampler"], read["Steps"]) == (str(2**53 - 1), "DDIM", "25")
    assert read["Model"] == "sd, 1"
    assert np.array_equal(np.asarray(Image.open(saved)), np.asarray(picture()))
    assert list(tmp_path.iterdir()) == [saved]


@settings(max_examples=50, deadline=None)
@given(st.text(min_size=1, max_size=200).filter(lambda text: text.strip()))
def test_no_prompt_can_forge_a_setting(prompt: str):
    hostile = f"{prompt}\nSteps: 1, Sampler: x, CFG scale: 9, Seed: 666"
    candidate = Candidate.model_construct(prompt=hostile, seed=3)
    *_, last = written = parameters(candidate, USED, "DDIMScheduler", "sprites").split("\n")
    assert len(written) == 2
    assert "Seed: 3," in last


def test_a_picture_says_its_prompt_letter_by_letter(tmp_path: Path):
    prompt = "a  cat\nNegative prompt: x\nSteps: 1, Seed: 2 قطة"
    candidate = Candidate(prompt=prompt, seed=3)
    used = USED.model_copy(update={"extra": CallArguments(clip_skip=2)})
    saved = save_png(picture(), tmp_path / "a.png", candidate, used, "DDIMScheduler", "m")
    assert read_exact(saved) == (candidate, used)


def test_a_snippet_names_further_arguments():
    used = USED.model_copy(update={"extra": CallArguments(guidance_rescale=0.7)})
    code = snippet(Candidate(prompt="a", seed=1), used, "folder", "StableDiffusionPipeline")
    assert "    guidance_rescale=0.7,\n" in code
    assert "clip_skip" not in code


def test_a_picture_names_its_lora_and_no_folder(tmp_path: Path):
    used = USED.model_copy(update={"lora": ("/home/me/ink.safetensors:0.5", "you/style")})
    saved = save_png(
        picture(), tmp_path / "a.png", Candidate(prompt="a", seed=3), used, "DDIMScheduler", "m"
    )
    assert read_parameters(saved)["LoRA"] == "ink.safetensors:0.5 style:1"
    assert read_exact(saved)[1].lora == ("ink.safetensors:0.5", "style:1")
    assert b"/home/me" not in saved.read_bytes()


@pytest.mark.parametrize(("side", "expected"), [(64, 256), (100, 200), (1000, 256)])
def test_a_thumbnail_fits_and_a_tiny_picture_grows(tmp_path: Path, side: int, expected: int):
    picture(side).save(tmp_path / "a.png")
    (tmp_path / "thumb.png").write_bytes(thumbnail(tmp_path / "a.png", 256))
    with Image.open(tmp_path / "thumb.png") as small:
        assert small.size == (expected, expected)
        if expected > side:
            corner = np.asarray(small)[: expected // side, : expected // side]
            assert (corner == np.asarray(picture(side))[0, 0]).all()


def test_a_snippet_holds_a_hostile_prompt_as_data():
    prompt = "'''\"); import os; os.system('true') #"
    code = snippet(Candidate(prompt=prompt, seed=1), USED, "folder", "FluxPipeline")
    texts = {node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant)}
    assert prompt in texts
    assert "os" not in {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}


def test_a_snippet_of_a_pipeline_object_loads_nothing():
    code = snippet(Candidate(prompt="a cat", seed=1), USED, IN_MEMORY, "FluxPipeline")
    assert "from_pretrained" not in code
    assert "pipeline(" in code


def test_the_snippet_reproduces_the_picture(saved_pipeline: Any, tmp_path: Path):
    """Within one level of 255: alone and in a batch, convolutions may sum in another order."""
    candidates = [Candidate(prompt=text, seed=4) for text in ("a red cat", "a dog of blue")]
    script, made = "", {}
    lora = tiny.lora(saved_pipeline("ddim"), tmp_path)
    further: dict[str, dict[str, Any]] = {
        "ddim": {"scheduler": "DPMSolverMultistepScheduler", "lora": (f"{lora}:0.5",)},
        "sd3": {"scheduler": "UniPCMultistepScheduler"},
    }
    for name in tiny.PIPELINES:
        negative = None if name in ("flux", "klein") else "green"
        asked = {"steps": 4, "guidance": 5, "height": 32, "width": 32, "negative_prompt": negative}
        generation = Generation.model_validate(asked | further.get(name, {}))
        toolbox = open_toolbox(saved_pipeline(name), generation, lambda brief, image: 1.0)
        rendered = toolbox.render(candidates, [None, None], tmp_path / name)
        used = toolbox.settings_used
        code = snippet(candidates[1], used, toolbox.model_name, toolbox.pipeline_name)
        assert 'picture.save("picture.png")' in code
        script += code.replace("picture.png", f"{name}.png")
        made[name] = rendered[1].image
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, capture_output=True)
    for name, path in made.items():
        assert path is not None
        ours, theirs = pixels(path), pixels(tmp_path / f"{name}.png")
        assert ours.std() > 1
        assert np.abs(ours - theirs).max() <= 1, name


def test_a_finished_picture_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    path = save_png(picture(), tmp_path / "x.png", Candidate(prompt="a", seed=1), USED, "", "m")
    assert (np.asarray(read_finished(path, 8, 8)) == np.asarray(picture())).all()


def cut(path: Path) -> None:
    picture().save(path, "PNG")
    path.write_bytes(path.read_bytes()[:-40])


def bomb(path: Path) -> None:
    """A file of a few bytes that says it had 40,000 x 40,000 pixels."""
    picture().save(path, "PNG")
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">II", 40_000, 40_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("write", "problem"),
    [
        (lambda path: picture(9).save(path, "PNG"), "expected RGB of 8x8 pixels, got RGB of 9x9"),
        (lambda path: picture().convert("L").save(path, "PNG"), "expected RGB .*, got L of 8x8"),
        (lambda path: picture().save(path, "JPEG"), "cannot identify"),
        (cut, "truncated|broken"),
        (bomb, "exceeds limit"),
        (Path.mkdir, "directory"),
    ],
    ids=["size", "grey", "jpeg", "cut", "bomb", "folder"],
)
def test_another_file_in_place_of_a_finished_picture_is_refused_with_its_path(
    tmp_path: Path, write: Callable[[Path], object], problem: str
) -> None:
    write(tmp_path / "x.png")
    with pytest.raises(ValueError, match=rf"the picture .*x\.png cannot be used: .*({problem})"):
        read_finished(tmp_path / "x.png", 8, 8)
