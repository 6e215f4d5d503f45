"""`promptprobe eval rewriting`: shares of what an LLM offers, counted over a file of briefs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from promptprobe.__main__ import main
from tests.agent.llm_server import (
    BRIEF,
    GOOD,
    KEY,
    completion,
    is_about,
    rewrites,
    right_answer,
    running,
)


def test_offered_accepted_and_refused_are_counted_with_reasons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    briefs = tmp_path / "briefs.csv"
    briefs.write_text(f"prompt,id\n{BRIEF},1\n{BRIEF},2\n")
    offers = (GOOD[0], BRIEF, "a fox in the snow, with the words 'LET IT SNOW'")
    with running() as server:
        server.script = lambda question: completion(
            rewrites(*offers) if is_about(question, "meets") else right_answer(question)
        )
        monkeypatch.setenv("OPENAI_BASE_URL", f"{server.address}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        code = main(["eval", "rewriting", "--briefs", str(briefs), "--llm", "test", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert code == 0
    assert {name: report[name] for name in ("briefs", "offered", "accepted", "refused")} == {
        "briefs": 2, "offered": 6, "accepted": 2, "refused": 4,
    }  # fmt: skip
    assert report["refused because"] == {"it adds the text ...": 2, "it repeats the brief": 2}
