"""Endpoints that fail: the run goes on, the cause is named, and the key is written nowhere."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
from itertools import takewhile
from pathlib import Path

import pytest

from promptprobe.agent.given import choose_proposer
from promptprobe.agent.ledger import Ledger
from promptprobe.agent.rewrite.llm import LlmProposer
from promptprobe.agent.runner import run_loop
from promptprobe.tools.endpoint.endpoint import LLM, Endpoint
from promptprobe.tools.endpoint.http_client import MAX_REPLY
from promptprobe.tools.records import BUDGETS
from tests.agent.llm_server import (
    BRIEF,
    GOOD,
    KEY,
    Answer,
    Server,
    accepted,
    completion,
    error,
    message,
    right_answer,
    run,
    running,
)
from tests.agent.scripted import ScriptedTools, start

# Failing

TEN_MB = b'{"choices": "' + b"x" * 10_000_000 + b'"}'
BOMB = gzip.compress(TEN_MB)
UNPACKED = {"Content-Encoding": "gzip", "Content-Length": str(len(BOMB))}
PAGE = b"<!doctype html><html>Welcome</html>"

FAILS: dict[str, tuple[Answer, str]] = {
    "401": (error(401, f"Incorrect API key: {KEY}"), "set OPENAI_API_KEY"),
    "429": (error(429, "slow down"), "429"),
    "429 for long": (error(429, "no quota", Retry_After="3600"), "wait 3600 s"),
    "500": (Answer(b"<html>oops</html>", 500), "500"),
    "no such model": (error(404, "no such model"), "no such model"),
    "a page": (Answer(PAGE), "a web page"),
    "a page under 405": (Answer(PAGE, 405), "405"),
    "garbage": (Answer(b"\xff\xfe garbage"), "no chat completion"),
    "no choices": (Answer(b'{"choices": []}'), "no chat completion"),
    "null choices": (Answer(b'{"choices": null}'), "no chat completion"),
    "an error under 200": (error(200, f"no credit for {KEY}"), "no credit"),
    "10 MB": (Answer(TEN_MB), f"{MAX_REPLY:,}"),
    "10 MB under 500": (Answer(TEN_MB, 500), f"{MAX_REPLY:,}"),
    "10 MB zipped": (Answer(BOMB, 200, UNPACKED), f"{MAX_REPLY:,}"),
    "zipped by halves": (Answer(b"no gzip", 200, {"Content-Encoding": "gzip"}), "unpacked"),
    "brotli": (Answer(b"x", 200, {"Content-Encoding": "br"}), "'br'"),
    "prose": (completion(f"sorry, I cannot, {KEY}"), "not the JSON asked for"),
    "another schema": (completion({"rewrites": "a fox"}), "not the JSON asked for"),
    "other types": (completion({"rewrites": [{"prompt": 7, "meets": []}]}), "not the JSON asked"),
    "a deep envelope": (
        Answer(b'{"choices": [{"message": {"content": ' + b"[" * 800 + b"]" * 800 + b"}}]}"),
        "nested too deeply",
    ),
    "a deep answer": (
        completion('{"rewrites": [7], "x": ' + "[" * 800 + "]" * 800 + "}"),
        "nested too deeply",
    ),
    "brackets": (completion("[" * 300_000), "not the JSON asked for"),
    "silence": (completion(""), "no text"),
    "refusal": (message(content=None, refusal="I must not"), "I must not"),
    "the key in a rewrite": (
        completion({"rewrites": [{"prompt": f"a fox in the snow {KEY}", "meets": []}]}), ""
    ),
}  # fmt: skip


@pytest.mark.parametrize("way", FAILS)
def test_a_failing_endpoint_is_named_and_the_key_is_written_nowhere(
    way: str, tmp_path: Path, server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    answer, says = FAILS[way]
    server.script = lambda _: answer
    result = run(tmp_path)
    told = " ".join(result.warnings)
    assert not any(prompt in GOOD for prompt in accepted(result))
    assert result.stop_reason == "budget spent"
    assert says in told
    assert all(len(warning) < 700 for warning in result.warnings)
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(KEY.encode() in data for data in written)
    assert KEY not in "".join(capfd.readouterr()) + json.dumps(result.summary())


def test_a_base_url_without_v1_is_named(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.address)
    server.script = lambda _: error(404, "not found")
    result = run(tmp_path)
    told = " ".join(result.warnings)
    assert accepted(result) == set()
    assert f"{server.address}/chat/completions" in told
    assert "/v1" in told


def test_a_redirect_does_not_carry_the_brief_elsewhere(tmp_path: Path, server: Server) -> None:
    with running() as other:
        other.script = lambda question: completion(right_answer(question))
        to = {"Location": f"{other.address}/v1/chat/completions"}
        server.script = lambda _: Answer(b"", 307, to)
        result = run(tmp_path)
        assert other.asked == []
        assert other.address.removeprefix("http://").partition(":")[0] in " ".join(result.warnings)
    assert accepted(result) == set()


def test_a_slow_endpoint_is_waited_for_once_a_run(tmp_path: Path, server: Server) -> None:
    done = threading.Event()

    def never(_: object) -> Answer:
        done.wait(60)
        return completion("late")

    server.script = never
    result = run(tmp_path, timeout=0.3)
    done.set()
    assert accepted(result) == set()
    assert len(server.asked) == 1
    told = " ".join(result.warnings)
    assert "within 0.3 s" in told or "in time" in told
    assert "not asked any more" in told


def test_an_endpoint_that_is_down_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    result = run(tmp_path, timeout=1.0)
    assert any("http://127.0.0.1:1/v1" in message for message in result.warnings)
    assert accepted(result) == set()


def test_only_success_is_remembered(tmp_path: Path, server: Server) -> None:
    server.script = lambda _: error(404, "not yet")
    result = run(tmp_path)
    assert accepted(result) == set()
    ledger = result.run_dir / "trials.jsonl"
    lines = ledger.read_text().splitlines()  # as if killed once the first call had failed
    kept = list(takewhile(lambda line: '"proposed"' not in line, lines))
    ledger.write_text("\n".join(kept) + "\n")
    (result.run_dir / "checkpoint.sqlite").unlink()
    paid = Ledger(result.run_dir).spent.llm_calls
    server.asked.clear()
    server.script = lambda question: completion(right_answer(question))
    proposer = LlmProposer(Endpoint(LLM(model="test-model")))
    again = asyncio.run(run_loop(result.run_dir, ScriptedTools(tmp_path / "log"), proposer))
    assert accepted(again) == set(GOOD)
    assert Ledger(result.run_dir).spent.llm_calls == paid + len(server.asked)


@pytest.mark.parametrize("cap", ["llm_calls", "tokens"])
def test_a_spent_llm_budget_asks_nothing_more(cap: str, tmp_path: Path, server: Server) -> None:
    body = {"usage": {"total_tokens": 7}}
    server.script = lambda question: Answer(
        json.dumps(json.loads(completion(right_answer(question)).body) | body).encode()
    )
    llm = LLM(model="test-model")
    capped = BUDGETS["light"].model_copy(update={cap: 1})
    run_dir = start(tmp_path, capped, brief=BRIEF, llm=llm.model, endpoint=llm)
    tools, proposer = ScriptedTools(tmp_path / "log"), LlmProposer(Endpoint(llm))
    result = asyncio.run(run_loop(run_dir, tools, proposer))
    assert len(server.asked) == result.spent.llm_calls == 1
    assert "is spent: no further rewrites are asked for" in " ".join(result.warnings)


# Before anything is spent


def test_a_key_is_stripped(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\n")
    server.script = lambda question: completion(right_answer(question))
    assert accepted(run(tmp_path)) == set(GOOD)


@pytest.mark.parametrize("key", ["secret\u00e9secret", "secret secret", "secret\nsecret"])
def test_a_key_that_cannot_be_a_header_is_refused_and_not_shown(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(ValueError, match="OPENAI_API_KEY holds") as refusal:
        choose_proposer(LLM(model="some-llm"), None, "enrich", "sprites")
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    "url",
    ["localhost:8000/v1", "http://", "http://[::1", "http://h:port/v1", "http://a b", "ftp://h"],
)
def test_a_malformed_address_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    with pytest.raises(ValueError, match="OPENAI_BASE_URL: expected a base URL such as"):
        choose_proposer(LLM(model="some-llm"), None, "enrich", "sprites")


def test_an_llm_without_key_and_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(ValueError, match="OPENAI_API_KEY"):
        choose_proposer(LLM(model="some-llm"), None, "enrich", "sprites")


@pytest.mark.parametrize(
    "fields",
    [
        {"base_url": "http://me:secret@host/v1"},
        {"base_url": "http://host/v1?api_key=secret"},
        {"api_key_env": "sk-secret"},
    ],
)
def test_an_llm_holds_no_secret(fields: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="environment variable") as refusal:
        LLM(model="some-llm", **fields)
    assert "secret" not in str(refusal.value)
