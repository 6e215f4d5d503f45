"""An LLM behind a real local HTTP server: what it does well, and every way it can fail."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from promptprobe.agent.result import OptimizationResult
from promptprobe.agent.rewrite.endpoint import MAX_REPLY, Endpoint
from promptprobe.agent.rewrite.llm import LlmProposer
from promptprobe.agent.rewrite.proposers import choose_proposer
from promptprobe.agent.runner import run_loop
from tests.agent.scripted import ScriptedTools, start

BRIEF = "a fox in the snow"
GOOD = ("a photograph of a fox in the snow, crisp winter light", "snow with a fox in it, cinematic")
Answer = tuple[int, bytes]
Script = Callable[[dict[str, Any]], Answer]


def completion(content: object) -> Answer:
    text = content if isinstance(content, str) else json.dumps(content)
    return 200, json.dumps(
        {"choices": [{"message": {"role": "assistant", "content": text}}]}
    ).encode()


class Server(ThreadingHTTPServer):
    """Answers as the script of a test says, and remembers what it was asked."""

    daemon_threads = True
    script: Script
    asked: list[dict[str, Any]]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(question)
        status, body = self.server.script(question)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Retry-After", "0.01")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            self.close_connection = True  # the client has had enough

    def log_message(self, *_: object) -> None:
        """Silence."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as running:
        running.asked = []
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{running.server_address[1]}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", "secret-of-a-test")
        yield running
        running.shutdown()
        thread.join()


def is_about_requirements(question: dict[str, Any]) -> bool:
    return question["response_format"]["json_schema"]["name"] == "Requirements"


def rewrites(*prompts: str) -> dict[str, Any]:
    meets = [
        {"requirement": "fox", "phrase": "fox"},
        {"requirement": "in the snow", "phrase": "snow"},
    ]
    return {"rewrites": [{"prompt": prompt, "meets": meets} for prompt in prompts]}


def well(question: dict[str, Any]) -> Answer:
    if is_about_requirements(question):
        listed = [("object", "fox"), ("relation", "in the snow"), ("object", "a unicorn")]
        return completion({"requirements": [{"kind": k, "text": t} for k, t in listed]})
    return completion(
        rewrites(
            GOOD[0],
            "a fox and a dog in the snow",
            GOOD[1],
            "a cinematic animal in the snow",
        )
    )


def run(out: Path, timeout: float = 20.0) -> OptimizationResult:
    run_dir = start(out, brief=BRIEF, llm="test-model")
    proposer = LlmProposer(Endpoint("test-model", timeout))
    return asyncio.run(run_loop(run_dir, ScriptedTools(out / "log"), proposer))


def prompts_of(result: OptimizationResult) -> set[str]:
    return {trial.candidate.prompt for trial in result.trials}


def test_rewrites_of_an_llm_are_tried_and_those_that_change_the_brief_are_not(
    tmp_path: Path, server: Server
) -> None:
    server.script = well
    result = run(tmp_path)
    assert prompts_of(result) == {BRIEF, *GOOD}
    assert result.spent.llm_calls == len(server.asked) >= 2
    told = " ".join(result.warnings)
    assert "dog" in told
    assert "'fox'" in told  # "a cinematic animal" quotes a fox that it does not hold


def test_requirements_are_asked_once_and_only_those_that_quote_the_brief_count(
    tmp_path: Path, server: Server
) -> None:
    server.script = well
    run(tmp_path)
    assert sum(map(is_about_requirements, server.asked)) == 1
    told = json.loads(server.asked[1]["messages"][1]["content"])
    assert [r["text"] for r in told["requirements"]] == ["fox", "in the snow"]
    assert told["brief"] == BRIEF
    assert told["trials"][0]["scores"]
    assert told["trials"][0]["focus"].keys() == {"cat"}


def test_the_key_is_written_nowhere(tmp_path: Path, server: Server) -> None:
    server.script = well
    result = run(tmp_path)
    for path in result.run_dir.rglob("*"):
        assert path.is_dir() or b"secret-of-a-test" not in path.read_bytes()


def test_a_resumed_run_does_not_ask_again(tmp_path: Path, server: Server) -> None:
    server.script = well
    result = run(tmp_path)
    asked = len(server.asked)
    ledger = result.run_dir / "trials.jsonl"
    kept = [line for line in ledger.read_text().splitlines() if '"finished"' not in line]
    ledger.write_text("\n".join(kept) + "\n")
    (result.run_dir / "checkpoint.sqlite").unlink()
    proposer = LlmProposer(Endpoint("test-model"))
    again = asyncio.run(run_loop(result.run_dir, ScriptedTools(tmp_path / "log"), proposer))
    assert len(server.asked) == asked
    assert again.trials == result.trials


TEN_MB = b'{"choices": "' + b"x" * 10_000_000 + b'"}'


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((401, b'{"error": {"message": "no"}}'), "OPENAI_API_KEY"),
        ((429, b'{"error": {"message": "slow down"}}'), "429"),
        ((500, b"<html>oops</html>"), "500"),
        ((404, b'{"error": {"message": "no such model"}}'), "no such model"),
        ((200, b"\xff\xfe garbage"), "no chat completion"),
        ((200, b'{"choices": []}'), "no chat completion"),
        ((200, TEN_MB), f"{MAX_REPLY:,}"),
        ((500, TEN_MB), f"{MAX_REPLY:,}"),
        (completion("sorry, I cannot"), "not the JSON asked for"),
        (completion({"rewrites": "a fox"}), "not the JSON asked for"),
        (completion({"rewrites": [{"prompt": 7, "meets": []}]}), "not the JSON asked for"),
        (completion(""), "no text"),
    ],
    ids=["401", "429", "500", "404", "garbage", "empty", "10 MB", "10 MB error", "prose", "schema",
         "types", "silence"],
)  # fmt: skip
def test_a_run_goes_on_without_a_failing_llm_and_says_so(
    answer: Answer, says: str, tmp_path: Path, server: Server
) -> None:
    server.script = lambda _: answer
    result = run(tmp_path)
    assert prompts_of(result) == {BRIEF}
    assert result.stop_reason == "budget spent"
    told = [message for message in result.warnings if "goes on without" in message]
    assert says in told[0]
    assert len(told[0]) < 500


def test_hostile_prompts_are_refused_and_harm_nothing(tmp_path: Path, server: Server) -> None:
    hostile = [
        "",
        "x" * 50_000,
        "a fox \x00 in the snow",
        "../../etc/passwd fox snow",
        BRIEF.upper(),
    ]
    server.script = lambda question: (
        well(question) if is_about_requirements(question) else completion(rewrites(*hostile))
    )
    result = run(tmp_path)
    assert prompts_of(result) == {BRIEF}
    assert all(len(message) < 700 for message in result.warnings)


def test_a_slow_endpoint_is_not_waited_for(tmp_path: Path, server: Server) -> None:
    done = threading.Event()

    def never(_: object) -> Answer:
        done.wait(60)
        return completion("late")

    server.script = never
    result = run(tmp_path, timeout=0.2)
    done.set()
    assert prompts_of(result) == {BRIEF}
    assert any("within 0.2 s" in message or "in time" in message for message in result.warnings)


def test_an_endpoint_that_is_down_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    result = run(tmp_path)
    assert any("OPENAI_BASE_URL" in message for message in result.warnings)
    assert prompts_of(result) == {BRIEF}


def test_an_llm_without_key_and_address_is_an_error_before_anything_is_spent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(ValueError, match="OPENAI_API_KEY"):
        choose_proposer("some-llm", None, True, "sprites")
