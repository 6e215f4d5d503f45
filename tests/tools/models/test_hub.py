"""Models and LoRA of a Hugging Face hub on this machine, which has them, has them not, or is away.

A model stays open by the name and the weight of its LoRA, so each test has a weight of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from promptprobe.__main__ import main
from promptprobe.tools.models.model import open_model
from promptprobe.tools.models.probes import locate_probe
from promptprobe.tools.pictures.png import snippet
from promptprobe.tools.records import Candidate, Generation
from promptprobe.tools.scorers.scorer import open_scorer
from promptprobe.tools.toolbox import settings_of
from tests import tiny
from tests.hub import REPOSITORY, Hub, folder_files, serving, use
from tests.probe.pipelines import full

NOBODY = "http://127.0.0.1:9"
SMALL = {"steps": 2, "guidance": 3.0, "height": 32, "width": 32}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving(Hub({})) as found:
        use(found.endpoint, tmp_path / "cache", monkeypatch)
        yield found


@pytest.fixture(scope="module")
def loras(ddim_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("lora")
    return [tiny.lora(ddim_folder, folder, seed=seed) for seed in (0, 1)]


def drawn(model: str | Path, *loras: str) -> Tensor:
    opened = open_model(model, Generation.model_validate(SMALL | {"lora": loras}))
    return full(opened.family, settings_of(opened.generation)).latents


def test_a_model_of_the_hub_draws_what_its_folder_draws_and_its_fetching_is_said(
    hub: Hub, ddim_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    hub.files |= folder_files(ddim_folder)
    found = drawn(REPOSITORY)
    said = capfd.readouterr().err
    assert f"fetching the model {REPOSITORY} from {hub.endpoint}\n" in said
    assert torch.equal(found, drawn(ddim_folder))


def test_a_lora_of_the_hub_draws_what_its_file_draws_also_when_the_hub_is_away_later(
    hub: Hub,
    ddim_folder: Path,
    loras: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    hub.files["any-name.safetensors"] = loras[0].read_bytes()
    found = drawn(ddim_folder, f"{REPOSITORY}:0.5")
    assert f"fetching the LoRA {REPOSITORY} from" in capfd.readouterr().err
    assert torch.equal(found, drawn(ddim_folder, f"{loras[0]}:0.5"))
    use(NOBODY, tmp_path / "cache", monkeypatch)
    assert not torch.equal(found, again := drawn(ddim_folder, REPOSITORY))
    assert torch.equal(again, drawn(ddim_folder, str(loras[0])))


def test_of_several_lora_in_a_repository_or_folder_one_is_to_be_named(
    hub: Hub, ddim_folder: Path, loras: list[Path]
) -> None:
    first, second = "4-steps.safetensors", "more/8-steps.safetensors"
    hub.files |= {first: loras[0].read_bytes(), second: loras[1].read_bytes()}
    for source in (REPOSITORY, str(loras[0].parent)):
        with pytest.raises(ValueError, match=rf"{source} has several files \(.*name one, as"):
            drawn(ddim_folder, f"{source}:3")
    named = f"{REPOSITORY}/{second}"
    assert torch.equal(drawn(ddim_folder, f"{named}:2"), drawn(ddim_folder, f"{loras[1]}:2"))
    generation = Generation.model_validate(SMALL | {"lora": (named,)})
    code = snippet(Candidate(prompt="a cat", seed=0), generation, "m", "StableDiffusionPipeline")
    assert f"load_lora_weights({REPOSITORY!r}, weight_name={second!r}, adapter_name=" in code
    hub.files["pytorch_lora_weights.safetensors"] = loras[0].read_bytes()  # the usual name
    assert torch.equal(drawn(ddim_folder, f"{REPOSITORY}:3"), drawn(ddim_folder, f"{loras[0]}:3"))


@pytest.mark.parametrize(
    ("lora", "says"),
    [
        ("no-one/nothing:0.5", "'no-one/nothing': no such file or folder here, and the Hugging"),
        ("no-one/nothing/a.safetensors", "hub has no such repository, or a private one"),
        (
            f"{REPOSITORY}/b.safetensors",
            "a repository of this name that does not contain this file",
        ),
        (f"{REPOSITORY}:4", f"{REPOSITORY} has no .safetensors"),
        ("a/b/c d?.safetensors", "no such file or folder here"),
    ],
)
def test_a_lora_that_the_hub_has_not_is_one_line_and_nothing_is_drawn(
    hub: Hub, ddim_folder: Path, tmp_path: Path, lora: str, says: str, capfd: Any
) -> None:
    judge = tmp_path / "judge.py"
    judge.write_text("def score(brief, image):\n    return 0.5\n")
    argv = ["optimize", "a cat", "--model", str(ddim_folder), "--lora", lora, "--rewrite", "off"]
    assert main([*argv, "--scorer", f"python:{judge}:score", "--out", str(tmp_path / "runs")]) == 2
    *_, last = capfd.readouterr().err.splitlines()
    assert last.startswith("promptprobe optimize: error: ") and says in last
    assert not list(tmp_path.glob("runs/*"))


def test_a_hub_that_does_not_answer_is_asked_once_and_what_was_fetched_is_said(
    tmp_path: Path, ddim_folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    use(NOBODY, tmp_path, monkeypatch)
    for what, fetch in (
        ("model", lambda: open_model("someone/a-thing")),
        ("probe", lambda: locate_probe("someone/a-thing")),
        ("judge", lambda: open_scorer("clip:someone/a-thing")),
        ("judge", lambda: open_scorer("vqa:someone/a-thing")),
        ("LoRA", lambda: drawn(ddim_folder, "someone/a-thing")),
        ("LoRA", lambda: drawn(ddim_folder, "someone/a-thing/a.safetensors:0.5")),
    ):
        with pytest.raises(ValueError, match=f"{NOBODY} does not answer"):
            fetch()
        assert f"fetching the {what} someone/a-thing from {NOBODY}" in capfd.readouterr().err
