from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from promptprobe.tools.models.model import open_model
from promptprobe.tools.records import Candidate, Generation
from promptprobe.tools.scorers.scorer import open_scorer
from promptprobe.tools.sprites import PROBE
from promptprobe.tools.toolbox import Toolbox
from tests.images import brightness

STEPS = 10
USED = Generation(steps=STEPS, guidance=5)
TWO = [Candidate(prompt="a photo of a red cat", seed=seed) for seed in (3, 4)]


@pytest.fixture
def probe_folder(ddim_folder: Path, tmp_path: Path) -> Path:
    """A probe of random weights whose card fits the tiny pipeline under USED."""
    from promptprobe.probe.families.family import Settings
    from promptprobe.probe.model.calibration import Calibration
    from promptprobe.probe.model.card import Card, ProbeStep, Ranges, Target, model_spec_of
    from promptprobe.probe.model.checkpoint import save_probe
    from promptprobe.probe.model.network import Network, NetworkConfig

    model = open_model(ddim_folder, USED)
    settings = Settings(steps=STEPS, guidance=5.0, height=32, width=32)
    network = Network(NetworkConfig(layers=len(model.family.layers()), channels=4, dim=32, width=8))
    card = Card(
        model="tiny",
        made_with=model_spec_of(model.family, settings),
        ranges=Ranges(steps=(8, 10), guidance=(5, 7.5), height=(32, 32), width=(32, 32)),
        shape=network.shape,
        weights_sha256="0" * 64,
        targets=(Target(name="brightness score", low=0.0, high=1.0, median=0.5),),
        windows=(ProbeStep(k=2, calibration=(Calibration(margin=0.1),), figures={}),),
        candidates=0,
        prompts=0,
    )
    save_probe(tmp_path / "probe", network, card)
    return tmp_path / "probe"


def with_probe(
    folder: Path, probe: Path, scorer: Any = brightness, used: Generation = USED
) -> Toolbox:
    return Toolbox(open_model(folder, used), open_scorer(scorer), probe=probe)


def test_a_probe_that_fits_predicts_with_an_interval(
    ddim_folder: Path, probe_folder: Path, tmp_path: Path
):
    toolbox = with_probe(ddim_folder, probe_folder)
    assert toolbox.notes == []
    for view in toolbox.probe("a red cat", TWO, tmp_path / "latents"):
        assert view.prediction is not None
        assert view.prediction.basis == "probe"
        assert view.prediction.low is not None
        assert view.prediction.high is not None
        assert 0 <= view.prediction.low <= view.prediction.score <= view.prediction.high <= 1
        assert [word.word for word in view.prediction.words] == ["photo", "red", "cat"]
        assert all(word.drawn is None for word in view.prediction.words)  # no judge of words


@pytest.mark.parametrize("change", [{"steps": 8}, {"guidance": 7.5}])
def test_settings_within_its_ranges_are_asked_of_the_probe_too(
    ddim_folder: Path, probe_folder: Path, tmp_path: Path, change: dict[str, float]
):
    toolbox = with_probe(ddim_folder, probe_folder, used=USED.model_copy(update=change))
    assert toolbox.notes == []
    (view,) = toolbox.probe("a red cat", TWO[:1], tmp_path / "latents")
    assert view.prediction is not None
    assert view.prediction.basis == "probe"


def test_sprites_ships_a_probe_that_fits_its_defaults(tmp_path: Path):
    toolbox = Toolbox(open_model("sprites"), open_scorer("sprites"), probe=PROBE)
    assert toolbox.notes == []
    for view in toolbox.probe("a red cat", TWO, tmp_path / "latents"):
        assert view.prediction is not None
        assert view.prediction.basis == "probe"
        chances = {word.word: word.drawn for word in view.prediction.words}
        assert chances["photo"] is None
        assert chances["red"] is not None
        assert chances["cat"] is not None


def damage_nothing(folder: Path) -> None:
    """The settings or the scorer differ instead."""


def truncate(folder: Path) -> None:
    weights = folder / "probe.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])


def empty_card(folder: Path) -> None:
    (folder / "card.json").write_text("{}")


def remove(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


@pytest.mark.parametrize(
    ("damage", "used", "named"),
    [
        (truncate, USED, ["probe.safetensors", "truncated"]),
        (empty_card, USED, ["card.json"]),
        (remove, USED, ["card.json"]),
        (damage_nothing, USED.model_copy(update={"guidance": 4.0}), ["guidance", "5.0", "4.0"]),
        (damage_nothing, USED.model_copy(update={"steps": 12}), ["steps", "8 to 10", "12"]),
    ],
)
def test_a_probe_that_does_not_fit_is_refused_aloud_and_previews_step_in(
    ddim_folder: Path,
    probe_folder: Path,
    tmp_path: Path,
    damage: Any,
    used: Generation,
    named: Sequence[str],
):
    damage(probe_folder)
    toolbox = with_probe(ddim_folder, probe_folder, used=used)
    (note,) = toolbox.check_brief("a red cat")
    for part in (*named, "previews instead, uncalibrated"):
        assert part in note
    (view,) = toolbox.probe("a red cat", TWO[:1], tmp_path / "latents")
    assert view.prediction is not None
    assert view.prediction.basis == "preview"


def test_a_probe_of_another_score_is_refused(ddim_folder: Path, probe_folder: Path):
    toolbox = with_probe(ddim_folder, probe_folder, scorer=lambda brief, image: 0.5)
    (note,) = toolbox.notes
    assert "'brightness score'" in note
    assert "'<lambda> score'" in note
