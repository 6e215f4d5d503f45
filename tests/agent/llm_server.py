"""A real local HTTP server in the place of an LLM, answering as a script says, and runs with it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from promptprobe.agent.result import OptimizationResult
from promptprobe.agent.rewrite.llm import LlmProposer
from promptprobe.agent.runner import run_loop
from promptprobe.tools.endpoint.endpoint import LLM, Endpoint
from promptprobe.tools.records import Budget
from tests.agent.scripted import ScriptedTools, start

BRIEF = "a fox in the snow"
GOOD = ("a photograph of a fox in the snow, crisp winter light", "snow with a fox in it, cinematic")
KEY = "secret-of-a-test"


@dataclass(frozen=True)
class Answer:
    """What goes over the wire."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


Script = Callable[[dict[str, Any]], Answer]
"""From the question's JSON to what is sent."""


class Server(ThreadingHTTPServer):
    """Answers as the script of a test says, and remembers what it was asked."""

    daemon_threads = True
    script: Script
    asked: list[dict[str, Any]]

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(question)
        answer = self.server.script(question)
        self.send_response(answer.status)
        standard = {
            "Content-Type": "application/json",
            "Retry-After": "0.01",
            "Content-Length": str(len(answer.body)),
        }
        for name, value in {**standard, **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            self.wfile.write(answer.body)
        except OSError:
            self.close_connection = True  # the client has had enough

    def log_message(self, *_: object) -> None:
        """Silence."""


@contextmanager
def running() -> Iterator[Server]:
    """A server at an address of its own, until the block ends."""
    with Server(("127.0.0.1", 0), Handler) as server:
        server.asked = []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def message(**said: Any) -> Answer:
    """A chat completion with one message."""
    return Answer(json.dumps({"choices": [{"message": {"role": "assistant", **said}}]}).encode())


def completion(content: object) -> Answer:
    """A chat completion whose content is a text, or JSON as a text."""
    return message(content=content if isinstance(content, str) else json.dumps(content))


def error(status: int, said: str, **headers: str) -> Answer:
    """An error as OpenAI sends it."""
    body = json.dumps({"error": {"message": said}}).encode()
    return Answer(body, status, {name.replace("_", "-"): value for name, value in headers.items()})


def is_about(question: dict[str, Any], field: str) -> bool:
    """Whether the question asks for a schema with this field."""
    return f'"{field}"' in question["messages"][0]["content"]


def rewrites(*prompts: str) -> dict[str, Any]:
    meets = [
        {"requirement": "fox", "phrase": "fox"},
        {"requirement": "in the snow", "phrase": "snow"},
    ]
    return {"rewrites": [{"prompt": prompt, "meets": meets} for prompt in prompts]}


def right_answer(question: dict[str, Any]) -> dict[str, Any]:
    """What a good LLM says of BRIEF: its requirements, the rewrites of GOOD, or that all keep."""
    if is_about(question, "judgements"):
        return judgements(question)
    if is_about(question, "rewrites"):
        return rewrites(*GOOD)
    listed = [("object", "fox"), ("relation", "in the snow")]
    return {"requirements": [{"kind": kind, "text": text} for kind, text in listed]}


def judgements(question: dict[str, Any], **by_prompt: dict[str, list[str]]) -> dict[str, Any]:
    """A verdict on each rewrite of a question: what is named for its prompt, else that it keeps."""
    asked = json.loads(question["messages"][-1]["content"].partition("\n\n")[0])
    return {
        "judgements": [
            {"number": one["number"], "dropped": [], "contradicted": [], "added": []}
            | by_prompt.get(one["prompt"], {})
            for one in asked["rewrites"]
        ]
    }


def run(
    out: Path, rewrite: str = "enrich", budget: str | Budget = "light", **llm: Any
) -> OptimizationResult:
    asked = LLM(model="test-model", **{"timeout": 20.0, **llm})
    run_dir = start(out, budget, brief=BRIEF, rewrite=rewrite, llm=asked.model, endpoint=asked)
    proposer = LlmProposer(Endpoint(asked))
    return asyncio.run(run_loop(run_dir, ScriptedTools(out / "log"), proposer))


def accepted(result: OptimizationResult) -> set[str]:
    return {trial.candidate.prompt for trial in result.trials} - {BRIEF}
