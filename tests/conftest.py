"""What many tests share: tiny random pipelines of every family, see tests/tiny.

jaxtyping checks the annotated shapes of promptprobe.probe in every test. torch and diffusers load
with the first fixture that needs them.
"""

from __future__ import annotations

import copy
import importlib.util
import os
from functools import cache
from pathlib import Path
from types import CodeType
from typing import Any

import pytest
from jaxtyping import _import_hook


class Checked(_import_hook._JaxtypingLoader):
    """Compiles a module with checks, and for once that module alone.

    jaxtyping's own has all that it imports compiled anew as well, torch included: 10 s a process.
    """

    def get_code(self, fullname: str) -> CodeType | None:
        code = super().get_code(fullname)
        importlib._bootstrap_external.cache_from_source = importlib.util.cache_from_source
        return code


_import_hook._JaxtypingLoader = Checked  # type: ignore[misc]
_import_hook.install_import_hook("promptprobe.probe", "beartype.beartype")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models spend a second thread on waiting
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # or every process compiles the whole source anew

from tests import tiny  # noqa: E402

OWN = ("requires_safety_checker", "force_zeros_for_empty_prompt")
"""What a pipeline is made with besides its parts."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="where the tiny pipelines stand (cpu)")


@cache
def _made(name: str) -> Any:
    import torch

    torch.manual_seed(0)
    pipeline = tiny.PIPELINES[name]()
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval()
    return pipeline


def _load(name: str, device: str) -> Any:
    """A copy of the test's own, which takes a tenth of the time of making it again."""
    made = _made(name)
    parts = {
        part: value if part.startswith("tokenizer") else copy.deepcopy(value)
        for part, value in made.components.items()
    }
    own = {option: made.config[option] for option in OWN if option in made.config}
    pipeline = type(made)(**parts, **own)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> str:
    return str(request.config.getoption("--device"))


@pytest.fixture(scope="session")
def saved_pipeline(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The folder of a tiny pipeline by its name, in diffusers' format."""

    @cache
    def save(name: str) -> Path:
        folder = tmp_path_factory.mktemp("models") / f"tiny-{name}"
        _made(name).save_pretrained(folder)
        return folder

    return save


@pytest.fixture(scope="session")
def ddim_folder(saved_pipeline: Any) -> Path:
    return saved_pipeline("ddim")


@pytest.fixture(scope="session")
def pndm_folder(saved_pipeline: Any) -> Path:
    return saved_pipeline("pndm")


@pytest.fixture(scope="session")
def xl_folder(saved_pipeline: Any) -> Path:
    return saved_pipeline("xl")


@pytest.fixture(scope="session")
def clip_folder(ddim_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random CLIPModel with its processor, saved."""
    import torch
    from transformers import (
        CLIPConfig,
        CLIPImageProcessorPil,
        CLIPModel,
        CLIPProcessor,
        CLIPTokenizer,
    )

    tokenizer = CLIPTokenizer.from_pretrained(ddim_folder / "tokenizer")
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    config = CLIPConfig(
        text_config={
            **small,
            "num_attention_heads": 2,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 16,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
        },
        vision_config={**small, "num_attention_heads": 2, "image_size": 32, "patch_size": 8},
        projection_dim=8,
    )
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("clip")
    CLIPModel(config).save_pretrained(folder)
    images = CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    CLIPProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def fresh_pipeline(device: str) -> Any:
    """What makes a pipeline of the caller's own, by its name in tests/tiny."""
    return lambda name: _load(name, device)


@pytest.fixture
def ddim_pipeline(fresh_pipeline: Any) -> Any:
    return fresh_pipeline("ddim")


@pytest.fixture
def pndm_pipeline(fresh_pipeline: Any) -> Any:
    return fresh_pipeline("pndm")


@pytest.fixture
def xl_pipeline(fresh_pipeline: Any) -> Any:
    return fresh_pipeline("xl")


@pytest.fixture(params=list(tiny.PIPELINES))
def tiny_pipeline(request: pytest.FixtureRequest, fresh_pipeline: Any) -> Any:
    """Each of them in turn."""
    return fresh_pipeline(request.param)
