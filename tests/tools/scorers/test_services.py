"""Judges behind an address, against real local servers that look at the pixels they are sent."""

from __future__ import annotations

import base64
import io
import json
import math
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image

from promptprobe.tools.endpoint.http_client import MAX_REPLY
from promptprobe.tools.scorers.http import open_http
from promptprobe.tools.scorers.scorer import open_scorer
from promptprobe.tools.scorers.vlm import yes_chances
from tests.agent.llm_server import Answer, Server, completion, error, running

RED, BLUE = Image.new("RGB", (40, 40), "red"), Image.new("RGB", (40, 40), "blue")
ASKED = {
    "questions": [
        {"question": "Is there red?", "word": "red"},
        {"question": "Is it a picture?", "word": "zebra"},
    ]
}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with running() as started:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{started.address}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", "secret-of-a-test")
        yield started


def opened(data: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")


def redness(image: Image.Image) -> float:
    red, green, blue = image.resize((1, 1)).tobytes()
    return (red - (green + blue) / 2) / 255


def scores(*values: Any) -> Answer:
    return Answer(json.dumps({"scores": values}).encode())


# http:URL


def test_a_service_gets_brief_and_images_and_its_scores_come_back(server: Server) -> None:
    server.script = lambda asked: scores(*[redness(opened(one)) for one in asked["images"]])
    found = open_scorer(f"{server.address}/score")("a red wall", [RED, BLUE] * 5)
    assert [score.value for score in found] == [1.0, -0.5] * 5
    assert [len(asked["images"]) for asked in server.asked] == [8, 2]
    assert {asked["brief"] for asked in server.asked} == {"a red wall"}


def test_a_service_may_explain_or_leave_one_unscored(server: Server) -> None:
    server.script = lambda _: scores({"value": 0.5, "explanation": "dull"}, None)
    first, second = open_scorer(f"http:{server.address}")("a", [RED, BLUE])
    assert (first.value, first.explanation) == (0.5, "dull")
    assert second.value is None
    assert second.reason.endswith("gave no score")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (Answer(b"<html>"), r"sent no {\"scores\""),
        (Answer(b'{"scores": ["good"]}'), r"sent no {\"scores\""),
        (Answer(b'{"scores": [NaN]}'), r"sent no {\"scores\""),
        (scores(1.0, 2.0), "returned 2 scores for 1 images"),
        (error(500, "out of memory"), "500 from .*out of memory"),
        (Answer(b"", 302, {"Location": "http://127.0.0.1:9/"}), "redirects"),
        (Answer(b" " * (MAX_REPLY + 1)), "more than 1,000,000 bytes"),
    ],
)
def test_what_a_service_may_not_answer_is_a_reason(
    server: Server, answer: Answer, says: str
) -> None:
    server.script = lambda _: answer
    judge = open_scorer(server.address)
    with pytest.raises(ValueError, match=f"image of noise.*{says}"):
        judge.check("a red wall")


def test_a_service_that_hangs_is_waited_for_a_bounded_time(server: Server) -> None:
    done = threading.Event()

    def hangs(_: dict[str, Any]) -> Answer:
        done.wait()
        return scores(1.0)

    server.script = hangs
    with pytest.raises(TimeoutError, match=r"did not reply within 0\.2 s"):
        open_http(server.address, "cpu", timeout=0.2).score_images("a", [RED])
    done.set()


@pytest.mark.parametrize("url", ["http:", "http:nowhere", "http://a:b@host/", "http://h/?key=1"])
def test_an_address_that_cannot_be_one_or_holds_a_secret_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"unknown scorer|base URL|address of a judge"):
        open_scorer(url)


# vlm:NAME


def looks(asked: dict[str, Any], sure: bool = False) -> Answer:
    """A VLM that sees how red a picture is, and nothing else."""
    content = asked["messages"][-1]["content"]
    if isinstance(content, str):
        return completion(ASKED)
    image = opened(content[1]["image_url"]["url"].partition(",")[2])
    red = "yes" if redness(image) > 0 else "no"
    answers = [
        {"number": 1, "reason": "by its colour", "answer": red},
        {"number": 2, "reason": "it is one", "answer": "yes"},
    ]
    text = json.dumps({"answers": answers})
    if not sure:
        return completion(text)
    before, _, after = text.partition(f'"{red}"')
    other = "no" if red == "yes" else "yes"
    likely = [
        {"token": f'"{word}', "logprob": math.log(p)} for word, p in ((red, 0.8), (other, 0.2))
    ]
    first, second = after.rsplit('"yes"', 1)
    tokens = [
        {"token": before, "logprob": 0.0},
        {"token": f'"{red}', "logprob": math.log(0.8), "top_logprobs": likely},
        {"token": f'"{first}', "logprob": 0.0},
        {"token": '"yes', "logprob": 0.0},
        {"token": f'"{second}', "logprob": 0.0},
    ]
    choice = {"message": {"content": text}, "logprobs": {"content": tokens}}
    return Answer(json.dumps({"choices": [choice]}).encode())


def test_a_vlm_is_asked_about_each_requirement_and_sees_the_pixels(server: Server) -> None:
    server.script = looks
    red, blue = open_scorer("vlm:eyes")("a red wall", [RED, BLUE])
    assert (red.value, red.correct) == (1.0, True)
    assert (blue.value, blue.correct) == (0.5, False)
    assert "Is there red? no: by its colour" in blue.explanation
    assert [(word.word, word.ok) for word in blue.words] == [
        ("red", False)
    ]  # no zebra in the brief
    assert len(server.asked) == 3  # the questions once, then one call an image


def test_a_vlms_probabilities_are_its_chances(server: Server) -> None:
    server.script = lambda asked: looks(asked, sure=True)
    red, blue = open_scorer("vlm:eyes")("a red wall", [RED, BLUE])
    assert red.words[0].chance == pytest.approx(0.8)
    assert blue.words[0].chance == pytest.approx(0.2)
    assert red.value == pytest.approx(0.9)


def test_an_endpoint_that_gives_no_probabilities_is_asked_without(server: Server) -> None:
    def refuses(asked: dict[str, Any]) -> Answer:
        return error(400, "logprobs are not supported") if "logprobs" in asked else looks(asked)

    server.script = refuses
    assert open_scorer("vlm:eyes")("a red wall", [RED])[0].value == 1.0


def test_a_vlm_that_leaves_questions_out_leaves_the_image_unscored(server: Server) -> None:
    def lazy(asked: dict[str, Any]) -> Answer:
        if isinstance(asked["messages"][-1]["content"], str):
            return completion(ASKED)
        return completion({"answers": [{"number": 1, "reason": "", "answer": "yes"}]})

    server.script = lazy
    [score] = open_scorer("vlm:eyes")("a red wall", [RED])
    assert score.value is None
    assert score.reason == "the VLM left 1 of 2 questions unanswered"


def test_a_vlm_without_key_or_address_is_refused_when_it_is_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ValueError, match="OPENAI_API_KEY"):
        open_scorer("vlm:eyes")


def test_tokens_that_split_a_word_are_added_up() -> None:
    tokens = [('{"answer": "', {}), ("y", {"y": math.log(0.3), "yes": math.log(0.3)}), ("es", {})]
    assert yes_chances([*tokens, ('"}', {})]) == [1.0]
