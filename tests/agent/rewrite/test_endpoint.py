"""Endpoints as they are: each way of answering gives rewrites, or a notice that names the cause."""

from __future__ import annotations

import gzip
import json
from base64 import b64decode
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from promptprobe.__main__ import main
from promptprobe.agent.optimize import optimize_prompt
from promptprobe.agent.rewrite.llm import MOST_PIXELS
from promptprobe.tools.records import BUDGETS
from tests.agent.llm_server import (
    BRIEF,
    GOOD,
    Answer,
    Server,
    accepted,
    completion,
    error,
    is_about,
    message,
    right_answer,
    run,
)

# Reading

Said = Callable[[dict[str, Any]], Answer]
"""From the right answer to how an endpoint says it."""


def text(before: str, after: str = "") -> Said:
    return lambda right: completion(before + json.dumps(right) + after)


def first_list(right: dict[str, Any]) -> list[Any]:
    return next(iter(right.values()))


def event_stream(right: dict[str, Any]) -> Answer:
    said = json.dumps(right)
    pieces = [said[at : at + 7] for at in range(0, len(said), 7)]
    events = [{"choices": [{"delta": {"content": piece}}]} for piece in pieces]
    lines = [": keep-alive", *(f"data: {json.dumps(event)}" for event in events), "data: [DONE]"]
    body = "\n\n".join(lines).encode()
    return Answer(body, headers={"Content-Type": "text/event-stream"})


def zipped(right: dict[str, Any]) -> Answer:
    body = gzip.compress(completion(right).body)
    return Answer(body, headers={"Content-Encoding": "gzip", "Content-Length": str(len(body))})


def tool_call(right: dict[str, Any]) -> Answer:
    function = {"name": "reply", "arguments": json.dumps(right)}
    return message(content=None, tool_calls=[{"type": "function", "function": function}])


def with_a_bad_item(right: dict[str, Any]) -> Answer:
    name, items = next(iter(right.items()))
    return completion({name: [7, {"prompt": 7}, *items]})


def ended_at_its_length(right: dict[str, Any]) -> Answer:
    whole = json.dumps(right)
    choice = {"message": {"content": whole + " and then"}, "finish_reason": "length"}
    return Answer(json.dumps({"choices": [choice]}).encode())


READ: dict[str, Said] = {
    "plainly": text(""),
    "after thinking": text('<think>Perhaps {"rewrites": []}? No.</think>\n'),
    "while thinking": text("<think>A fox, [snow], {light}. I answer: "),
    "in fences": text("```json\n", "\n```"),
    "in prose": text("Sure! Here {as JSON} it is:\n", "\nDo you like [it]?"),
    "after a BOM": text("\ufeff"),
    "after a BOM of the body": lambda right: Answer(b"\xef\xbb\xbf" + completion(right).body),
    "as a bare list": lambda right: completion(json.dumps(first_list(right))),
    "an item a line": lambda right: completion("\n".join(map(json.dumps, first_list(right)))),
    "in an envelope": lambda right: completion({"result": right, "confidence": 1}),
    "with unknown keys": lambda right: completion({**right, "note": "as asked"}),
    "with bad items": with_a_bad_item,
    "in parts": lambda right: message(content=[{"type": "text", "text": json.dumps(right)}]),
    "as an object": lambda right: message(content=right),
    "in a tool call": tool_call,
    "in reasoning_content": lambda r: message(content="", reasoning_content=json.dumps(r)),
    "as an event stream": event_stream,
    "zipped": zipped,
    "in an odd charset": lambda right: Answer(
        completion(right).body, headers={"Content-Type": "application/json; charset=hex"}
    ),
    "as Ollama does": lambda right: Answer(
        json.dumps({"message": {"content": json.dumps(right)}, "done": True}).encode()
    ),
    "up to its length limit": ended_at_its_length,
}


@pytest.mark.parametrize("way", READ)
def test_rewrites_are_read_however_they_are_said(way: str, tmp_path: Path, server: Server) -> None:
    server.script = lambda question: READ[way](right_answer(question))
    result = run(tmp_path)
    assert accepted(result) == set(GOOD)
    assert not any("without rewrites" in warning for warning in result.warnings)


def test_a_list_that_is_cut_off_gives_its_whole_items_and_a_notice(
    tmp_path: Path, server: Server
) -> None:
    def cut(question: dict[str, Any]) -> Answer:
        whole = json.dumps(right_answer(question))
        said = whole[: whole.index(GOOD[1]) + 9] if is_about(question, "rewrites") else whole
        choice = {"message": {"content": said}, "finish_reason": "length"}
        return Answer(json.dumps({"choices": [choice]}).encode())

    server.script = cut
    result = run(tmp_path)
    assert accepted(result) == {GOOD[0]}
    assert any("length limit" in warning for warning in result.warnings)


# Asking

Refuses = Callable[[dict[str, Any]], Answer | None]


def form(question: dict[str, Any]) -> str:
    return question.get("response_format", {}).get("type", "text")


def refusing(unfit: Callable[[dict[str, Any]], bool], status: int, said: str) -> Refuses:
    return lambda question: error(status, said) if unfit(question) else None


ASKED: dict[str, Refuses] = {
    "no schema": refusing(
        lambda q: form(q) == "json_schema", 400, "response_format.type must be json_object or text"
    ),
    "no schema, under 200": refusing(
        lambda q: form(q) == "json_schema", 200, "'response_format.type' must be 'text'"
    ),
    "no schema, under 500": refusing(
        lambda q: form(q) == "json_schema", 500, "failed to parse grammar"
    ),
    "no JSON": refusing(lambda q: "response_format" in q, 422, "extra fields not permitted"),
    "no $ref": refusing(lambda q: "$ref" in json.dumps(q), 400, "unresolvable"),
    "no system role": refusing(
        lambda q: q["messages"][0]["role"] == "system", 400, "Only user and assistant roles"
    ),
    "no max_tokens": refusing(
        lambda q: "max_tokens" in q, 400, "Use 'max_completion_tokens' instead of 'max_tokens'"
    ),
    "no limit": refusing(
        lambda q: {"max_tokens", "max_completion_tokens"} & q.keys() != set(), 400, "max_tokens"
    ),
    "no temperature": refusing(lambda q: "temperature" in q, 400, "'temperature' must be 1"),
    "nothing, and no reason": refusing(
        lambda q: (
            {"temperature", "max_tokens", "max_completion_tokens", "response_format"} & q.keys()
            != set()
            or len(q["messages"]) > 1
        ),
        400,
        "Bad Request",
    ),
}


@pytest.mark.parametrize("way", ASKED)
def test_an_endpoint_is_asked_as_it_likes_and_that_is_remembered(
    way: str, tmp_path: Path, server: Server
) -> None:
    refused = []

    def script(question: dict[str, Any]) -> Answer:
        if refusal := ASKED[way](question):
            refused.append(question)
            return refusal
        return completion(right_answer(question))

    server.script = script
    result = run(tmp_path, temperature=0.3, max_tokens=500)
    assert accepted(result) == set(GOOD)
    assert refused == server.asked[: len(refused)]  # and never again
    assert result.spent.llm_calls == len(server.asked)


def test_an_invalid_reply_is_asked_for_once_more_with_what_is_wrong(
    tmp_path: Path, server: Server
) -> None:
    def script(question: dict[str, Any]) -> Answer:
        again = "could not be used" in question["messages"][-1]["content"]
        return completion(right_answer(question) if again else "Sorry, what?")

    server.script = script
    result = run(tmp_path)
    assert accepted(result) == set(GOOD)
    assert result.spent.llm_calls == len(server.asked)
    assert "no JSON in 'Sorry, what?'" in server.asked[1]["messages"][-1]["content"]


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_endpoint_is_asked_again_when_it_says(
    status: int, tmp_path: Path, server: Server
) -> None:
    def script(question: dict[str, Any]) -> Answer:
        first = len(server.asked) == 1
        return error(status, "slow down") if first else completion(right_answer(question))

    server.script = script
    assert accepted(run(tmp_path)) == set(GOOD)


def test_tokens_are_counted(tmp_path: Path, server: Server) -> None:
    def script(question: dict[str, Any]) -> Answer:
        choice = {"message": {"content": json.dumps(right_answer(question))}}
        usage = {"prompt_tokens": 30, "completion_tokens": 12, "total_tokens": 42}
        return Answer(json.dumps({"choices": [choice], "usage": usage}).encode())

    server.script = script
    result = run(tmp_path, price_in=2.0, price_out=10.0)
    assert result.spent.tokens == 42 * len(server.asked)
    assert result.spent.usd == pytest.approx(len(server.asked) * (30 * 2.0 + 12 * 10.0) / 1e6)
    cap = BUDGETS["light"].model_copy(update={"usd": 1e-4})
    (tmp_path / "capped").mkdir()
    capped = run(tmp_path / "capped", price_in=2.0, price_out=10.0, budget=cap)
    assert any("budget of 0.0001 US dollars" in message for message in capped.warnings)
    assert not accepted(capped)


def shown(question: dict[str, Any]) -> list[bytes]:
    """The pictures of a question."""
    said = question["messages"][-1]["content"]
    urls = [
        part["image_url"]["url"] for part in said if isinstance(part, dict) and "image_url" in part
    ]
    return [b64decode(url.removeprefix("data:image/jpeg;base64,")) for url in urls]


def plainly(question: dict[str, Any]) -> dict[str, Any]:
    """The question without its picture."""
    last = question["messages"][-1]
    if isinstance(last["content"], str):
        return question
    return {
        **question,
        "messages": [question["messages"][0], {**last, "content": last["content"][0]["text"]}],
    }


def test_an_llm_that_sees_is_shown_what_was_drawn_in_a_bounded_picture(
    tmp_path: Path, server: Server
) -> None:
    server.script = lambda question: completion(right_answer(plainly(question)))
    assert accepted(run(tmp_path, vision=True)) == set(GOOD)
    asked = [question for question in server.asked if is_about(question, "meets")]
    with Image.open(BytesIO(shown(asked[0])[0])) as sheet:
        assert 0 < sheet.width * sheet.height <= MOST_PIXELS
    assert "contact sheet" in asked[0]["messages"][0]["content"]
    assert not any(shown(question) for question in server.asked if question not in asked)


def test_an_endpoint_that_takes_no_picture_is_asked_without_with_a_notice(
    tmp_path: Path, server: Server
) -> None:
    def script(question: dict[str, Any]) -> Answer:
        if shown(question):
            return error(400, "this model does not support image input")
        return completion(right_answer(question))

    server.script = script
    result = run(tmp_path, vision=True)
    assert accepted(result) == set(GOOD)
    assert any("it takes no picture" in message for message in result.warnings)


def test_a_cap_on_money_needs_prices() -> None:
    with pytest.raises(ValueError, match="price_in=, price_out="):
        optimize_prompt(BRIEF, llm="name", budget=BUDGETS["light"].model_copy(update={"usd": 1}))


# From the command line


def test_an_llm_is_named_by_options_and_must_be_named_again_to_go_on(
    ddim_folder: Path,
    clip_folder: Path,
    tmp_path: Path,
    server: Server,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.script = lambda question: completion({"requirements": [], "rewrites": []})
    tiny = ["--model", str(ddim_folder), "--scorer", f"clip:{clip_folder}", "--steps", "5"]
    llm = ["--llm", "any", "--llm-base-url", f"{server.address}/v1"]
    command = ["optimize", "a red cat", *tiny, *llm, "--json", "--out", str(tmp_path)]
    assert main(command) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["spent"]["llm_calls"] == len(server.asked) > 0
    assert printed["rewrites"] == {"offered": 0, "accepted": 0, "refused": 0}
    assert main(["optimize", "--resume", printed["run_dir"]]) == 2
    assert "give the LLM again" in capsys.readouterr().err
