"""The round that docs/rewriting.md shows is what goes over the wire, and ends as it says."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

from promptprobe.agent.rewrite.llm import LlmProposer
from promptprobe.agent.runner import run_loop
from promptprobe.tools.endpoint.endpoint import LLM, Endpoint
from tests.agent.llm_server import Answer, Server, completion
from tests.agent.scripted import ScriptedTools, start

PAGE = Path(__file__).parents[3] / "docs/rewriting.md"


def test_the_transcript_of_the_page_is_true(tmp_path: Path, server: Server) -> None:
    shown = PAGE.read_text(encoding="utf-8").partition("## One round\n")[2]
    blocks = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", shown, re.DOTALL)]
    questions, answers = blocks[::2], blocks[1::2]
    asked: list[dict[str, Any]] = []

    def script(question: dict[str, Any]) -> Answer:
        asked.append(json.loads(question["messages"][1]["content"]))
        return completion(answers[len(asked) - 1])

    server.script = script
    brief = questions[0]["request"]
    run_dir = start(tmp_path, brief=brief, llm="demo", pipeline="StableDiffusionPipeline")
    tools, proposer = ScriptedTools(tmp_path / "log"), LlmProposer(Endpoint(LLM(model="demo")))
    result = asyncio.run(run_loop(run_dir, tools, proposer))
    for one in (*asked, *questions):  # scores are the model's, and how many rounds the planner's
        one.pop("rounds_left", None)
        one["trials"] = [sorted(trial) for trial in one.get("trials", [])]
    assert asked == questions
    refused = [warning for warning in result.warnings if warning.startswith("refused")]
    assert refused
    assert all(f"note: {warning}" in shown for warning in refused)
