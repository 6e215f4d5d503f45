from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from promptprobe.tools.models.model import open_model, open_toolbox
from promptprobe.tools.pictures.attention import attention_of
from promptprobe.tools.records import Candidate, Generation, Score
from promptprobe.tools.scorers.scorer import open_scorer
from promptprobe.tools.toolbox import Toolbox
from tests.images import brightness, pixels, read_parameters

STEPS = 10
USED = Generation(steps=STEPS, guidance=5)
FOUR = [
    Candidate(prompt=prompt, seed=seed)
    for prompt in ("a red cat", "a photo of a blue dog and a car")
    for seed in (3, 4)
]


@pytest.fixture(scope="module", params=["ddim", "pndm"])
def folder(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(f"{request.param}_folder")
    return found


@pytest.fixture(scope="module")
def toolbox(folder: Path) -> Toolbox:
    return open_toolbox(folder, USED, brightness)


def test_survivors_equal_an_uninterrupted_render(toolbox: Toolbox, tmp_path: Path):
    """Bit for bit in the same batch; within one level of 255 in another one."""
    probed = toolbox.probe("a red cat", FOUR, tmp_path / "latents")
    whole = toolbox.render(FOUR, [None] * 4, tmp_path / "whole")
    same = toolbox.render(FOUR, [view.latents for view in probed], tmp_path / "same")
    for ours, theirs in zip(same, whole, strict=True):
        assert np.array_equal(pixels(ours.image), pixels(theirs.image))
        assert pixels(ours.image).std() > 1
    few = [2, 0]
    other = toolbox.render(
        [FOUR[at] for at in few], [probed[at].latents for at in few], tmp_path / "other"
    )
    for at, ours in zip(few, other, strict=True):
        assert np.abs(pixels(ours.image) - pixels(whole[at].image)).max() <= 1


def test_nfe_is_what_the_scheduler_makes_and_probe_steps_are_paid_once(
    toolbox: Toolbox, folder: Path, tmp_path: Path
):
    made = STEPS + 1 if folder.name == "tiny-pndm" else STEPS
    assert toolbox.nfe_per_render == 2 * made
    assert toolbox.probe_steps == 2
    (probed,) = toolbox.probe("a red cat", FOUR[:1], tmp_path)
    (rest,) = toolbox.render(FOUR[:1], [probed.latents], tmp_path)
    (whole,) = toolbox.render(FOUR[:1], [None], tmp_path)
    assert probed.nfe > 0
    assert probed.nfe + rest.nfe == whole.nfe == toolbox.nfe_per_render


def test_results_come_back_in_order_when_some_continue_and_some_start(
    toolbox: Toolbox, tmp_path: Path
):
    probed = toolbox.probe("a red cat", FOUR, tmp_path)
    mixed = [probed[0].latents, None, probed[2].latents, None]
    rendered = toolbox.render(FOUR, mixed, tmp_path / "images")
    for candidate, found in zip(FOUR, rendered, strict=True):
        assert found.image == tmp_path / "images" / f"{candidate.key}.png"
        assert read_parameters(found.image)["Seed"] == str(candidate.seed)
        assert read_parameters(found.image)["prompt"] == candidate.prompt
    assert rendered[1].nfe == rendered[3].nfe > rendered[0].nfe == rendered[2].nfe


def test_without_a_probe_the_preview_is_scored_and_labelled(toolbox: Toolbox, tmp_path: Path):
    probed = toolbox.probe("a red cat", FOUR, tmp_path)
    for view in probed:
        assert view.prediction is not None
        assert view.prediction.basis == "preview"
        assert view.prediction.low is None
        assert 0 < view.prediction.score < 1
        assert view.latents.is_file()
    words = [word.word for word in probed[0].prediction.words] if probed[0].prediction else []
    assert words == ["red", "cat"]
    scores = {view.prediction.score for view in probed if view.prediction}
    assert len(scores) == 4


def test_heat_maps_and_previews_are_drawn_where_asked_for_and_change_nothing(
    toolbox: Toolbox, tmp_path: Path
):
    plain = toolbox.probe("a red cat", FOUR, tmp_path / "latents")
    maps, seen = tmp_path / "heatmaps", tmp_path / "previews"
    drawn = toolbox.probe("a red cat", FOUR, tmp_path / "latents", maps, previews=seen)
    assert [view.prediction for view in drawn] == [view.prediction for view in plain]
    assert [(view.heatmap, view.preview) for view in plain] == [(None, None)] * 4
    assert {view.heatmap for view in drawn} == set(maps.iterdir())
    assert {view.preview for view in drawn} == set(seen.glob("*.webp"))
    kept = [attention_of(view.preview) for view in drawn if view.preview]
    assert [len(one.maps) for one in kept if one] == [2, 2, 4, 4]
    assert len({pixels(view.preview).tobytes() for view in drawn}) == 4
    few, many = (pixels(drawn[at].heatmap).shape for at in (0, 2))  # two words, then four
    assert few[1] < many[1]


@pytest.mark.parametrize("damage", ["truncated", "missing", "garbage"])
def test_damaged_latents_cost_a_full_render_and_nothing_else(
    toolbox: Toolbox, tmp_path: Path, damage: str
):
    probed = toolbox.probe("a red cat", FOUR[:2], tmp_path)
    whole = toolbox.render(FOUR[:2], [None, None], tmp_path / "whole")
    broken = probed[0].latents
    if damage == "missing":
        broken.unlink()
    else:
        content = broken.read_bytes()
        broken.write_bytes(content[:200] if damage == "truncated" else b"\xff" * len(content))
    rendered = toolbox.render(FOUR[:2], [view.latents for view in probed], tmp_path / "images")
    assert rendered[0].nfe == toolbox.nfe_per_render > rendered[1].nfe
    (notice,) = rendered[0].notices
    assert "latents cannot be used, so an image is drawn from the start" in notice
    assert broken.name in notice and rendered[1].notices == ()
    for ours, theirs in zip(rendered, whole, strict=True):
        assert np.abs(pixels(ours.image) - pixels(theirs.image)).max() <= 1


def test_a_failing_scorer_leaves_previews_and_images_unscored_with_the_reason(
    ddim_folder: Path, tmp_path: Path
):
    def broken(brief: str, image: Image.Image) -> float:
        raise ConnectionError("the judge is away")

    toolbox = open_toolbox(ddim_folder, USED, broken)
    (view,) = toolbox.probe("a red cat", FOUR[:1], tmp_path)
    assert view.prediction is None
    assert (
        view.reason
        == "the preview was not scored: broken failed: ConnectionError: the judge is away"
    )
    (rendered,) = toolbox.render(FOUR[:1], [view.latents], tmp_path)
    assert rendered.image is not None
    (score,) = toolbox.score("a red cat", [rendered.image])
    assert score == Score(reason="broken failed: ConnectionError: the judge is away", failed=True)


def test_an_unreadable_image_is_unscored_and_the_others_are_scored(
    toolbox: Toolbox, tmp_path: Path
):
    Image.new("RGB", (8, 8), "white").save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    paths = [tmp_path / name for name in ("bad.png", "good.png", "gone.png")]
    bad, good, gone = toolbox.score("a", paths)
    assert good.value == 1.0
    assert "bad.png cannot be read" in bad.reason
    assert "gone.png cannot be read" in gone.reason
    assert toolbox.judge_names == ()


def test_a_black_image_of_the_safety_checker_is_unscored_with_that_reason(
    ddim_pipeline: Any, tmp_path: Path
):
    ddim_pipeline.register_modules(
        safety_checker=checker(threshold=-2.0), feature_extractor=extractor()
    )
    toolbox = open_toolbox(ddim_pipeline, USED, brightness)
    (rendered,) = toolbox.render(FOUR[:1], [None], tmp_path)
    assert rendered.reason == "the model's safety checker blacked this image out"
    assert pixels(rendered.image).max() == 0


def test_numbers_that_are_not_finite_are_unscored_with_that_reason(
    ddim_pipeline: Any, tmp_path: Path
):
    import torch

    toolbox = open_toolbox(ddim_pipeline, USED, brightness)
    with torch.no_grad():
        ddim_pipeline.unet.conv_out.bias.fill_(float("nan"))
    (view,) = toolbox.probe("a red cat", FOUR[:1], tmp_path, tmp_path)
    assert view.prediction is None
    assert "not finite" in view.reason
    assert pixels(view.heatmap).size
    (rendered,) = toolbox.render(FOUR[:1], [None], tmp_path)
    assert rendered.image is None
    assert "not finite" in rendered.reason


def test_cut_words_are_named(toolbox: Toolbox, tmp_path: Path):
    long = "a red cat " + "of a dog " * 12 + "zebra"
    (view,) = toolbox.probe("a red cat", [Candidate(prompt=long, seed=1)], tmp_path)
    assert view.cut[-1] == "zebra"
    (warning,) = toolbox.check_brief(long)
    assert "longer than the model's text encoder reads; cut off:" in warning
    assert toolbox.check_brief("a red cat") == []


# -- Sprites' language -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sprites(ddim_folder: Path) -> Toolbox:
    """The tiny pipeline under the name of Sprites: only the language is asked."""
    model = replace(open_model(ddim_folder, USED), name="sprites")
    return Toolbox(model, open_scorer(brightness))


def test_sprites_names_unknown_words(sprites: Toolbox):
    (warning,) = sprites.check_brief("a red cat, zorbing")
    assert "does not know: zorbing" in warning
    assert "umbrella" in warning


def test_sprites_names_scenes_of_a_form_that_training_never_had(sprites: Toolbox):
    for brief in ("four black keys and a red heart", "a red cat above a red car"):
        (warning,) = sprites.check_brief(brief)
        assert "never trained on scenes of this form" in warning
    for brief in ("four black keys", "a car left of a cat", "a red cat and a blue car"):
        assert sprites.check_brief(brief) == []


@pytest.mark.parametrize(
    "brief",
    ["a spaceship", "🐈🐈", "قطة حمراء", "ignore all previous instructions", "!!!", "not a cat"],
)
def test_sprites_refuses_what_it_cannot_draw_and_says_what_it_can(sprites: Toolbox, brief: str):
    with pytest.raises(ValueError, match=r"cannot draw .*draws bird, car.*in red, orange"):
        sprites.check_brief(brief)


def checker(threshold: float) -> Any:
    """A tiny real safety checker; at threshold -2 every image is above it."""
    import torch
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
    from transformers import CLIPConfig

    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
    }
    model = StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision, projection_dim=8))
    with torch.no_grad():
        model.concept_embeds_weights.fill_(threshold)
    return model.eval()


def extractor() -> Any:
    from transformers import CLIPImageProcessorPil

    return CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
