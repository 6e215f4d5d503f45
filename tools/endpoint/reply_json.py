"""Finds the answer in whatever an endpoint sent: the shape of the body, and the JSON in it.

Everything here is untrusted text of at most a few megabytes. Work is bounded, nothing is executed,
and what is returned has passed the schema.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, from_json

MAX_SCANNED = 20_000_000
"""Characters scanned in vain before the search for JSON in a text is given up."""
MAX_VALUES = 1_000
"""Maximum number of JSON values examined in a text, and of values nested in those."""
OPENING = re.compile(r"[\[{]")
THOUGHTS_END = ("</think>", "</thinking>", "[/THINK]", "◁/think▷", "<|channel|>final<|message|>")

Schema = TypeVar("Schema", bound=BaseModel)


class NoMessageError(ValueError):
    """The body contains no message of an LLM; the error says what it contains instead."""

    def __init__(self, found: str, error: str = "") -> None:
        super().__init__(found)
        self.error = error
        """The endpoint's own error message, if there is one."""


class NoAnswerError(ValueError):
    """The message contains no JSON of the schema; the error's text may be shown to the LLM."""


TokenChances = tuple[str, dict[str, float]]
"""A token's text, and the log probabilities of the most likely tokens in its place, by text."""


@dataclass(frozen=True)
class Message:
    """The parts of a completion that may contain an answer."""

    texts: tuple[str, ...]
    """The likeliest first: content, arguments of tool calls, reasoning."""
    asked: int = 0
    """Prompt tokens, as far as the endpoint counts them."""
    answered: int = 0
    """Completion tokens; all tokens if the endpoint only gives the sum."""
    cut_off: bool = False
    """Whether the completion ended at its length limit."""
    refusal: str = ""


def read_message(body: str) -> Message:
    """Read the message of a chat completion, of its event stream, or of Ollama's own API.

    Raises:
        NoMessageError: it is a web page, an error, or something unknown.
    """
    try:
        return _message(body)
    except RecursionError:
        raise NoMessageError("JSON that is nested too deeply") from None


def _message(body: str) -> Message:
    body = body.strip().removeprefix("\ufeff").strip()
    if body.startswith("<"):
        raise NoMessageError(f"a web page instead of a chat completion: {body[:60]!r}")
    parts = [part for part in _parts(body) if isinstance(part, dict)]
    if not parts:
        raise NoMessageError(f"no chat completion: {body[:80]!r}")
    answer = {"content": "", "refusal": "", "reasoning": ""}
    calls: dict[object, str] = {}
    tokens, cut_off, choices = (0, 0), False, 0
    for part in parts:
        if error := _error(part):
            raise NoMessageError(f"an error: {error}", error)
        tokens = max(tokens, _tokens(part.get("usage")), key=sum)
        for choice in _choices(part):
            choices += 1
            cut_off |= "length" in (choice.get("finish_reason"), choice.get("done_reason"))
            _add(answer, calls, choice)
    if not choices:
        raise NoMessageError(f"no chat completion: {body[:80]!r}")
    texts = (answer["content"], *calls.values(), answer["reasoning"])
    return Message(tuple(filter(None, texts)), *tokens, cut_off, answer["refusal"])


def read_probabilities(body: str) -> tuple[TokenChances, ...]:
    """The tokens of a completion with the log probabilities of the most likely in each place.

    Empty if the endpoint gives none, or in an unknown format.
    """
    found: list[TokenChances] = []
    for part in _parts(body.strip()):
        for choice in _choices(part) if isinstance(part, dict) else ():
            held = choice.get("logprobs")
            tokens = held.get("content") if isinstance(held, dict) else None
            for token in tokens if isinstance(tokens, list) else ():
                if not isinstance(token, dict) or not isinstance(token.get("token"), str):
                    return ()
                likely = token.get("top_logprobs")
                chances = {
                    str(one["token"]): float(one["logprob"])
                    for one in [token, *(likely if isinstance(likely, list) else ())]
                    if isinstance(one, dict) and isinstance(one.get("logprob"), int | float)
                }
                found.append((token["token"], chances))
    return tuple(found)


def _parts(body: str) -> Iterator[Any]:
    """The JSON values of a body: a single one, or one per event or line."""
    try:
        yield json.loads(body)
        return
    except (ValueError, RecursionError):
        lines = (line.strip().removeprefix("data:") for line in body.splitlines())
    for line in lines:
        try:
            yield json.loads(line)
        except (ValueError, RecursionError):
            continue


def _error(part: dict[str, Any]) -> str:
    error = part.get("error")
    if error is None and part.get("object") == "error":
        error = part.get("message")
    if error is None and "choices" not in part and "message" not in part:
        error = part.get("detail")
    if isinstance(error, dict):
        error = error.get("message") or error
    return f"{error!s:.200}" if error else ""


def _tokens(usage: object) -> tuple[int, int]:
    """Tokens asked and answered, as far as the endpoint counts them."""
    if not isinstance(usage, dict):
        return 0, 0
    asked, answered, total = (
        max(0, min(count, 10**9)) if isinstance(count := usage.get(f"{name}_tokens"), int) else 0
        for name in ("prompt", "completion", "total")
    )
    return asked, max(answered, total - asked)


def _choices(part: dict[str, Any]) -> list[dict[str, Any]]:
    choices = part.get("choices")
    if choices is None and isinstance(part.get("message"), dict):
        choices = [part]  # Ollama's own API
    return (
        [choice for choice in choices if isinstance(choice, dict)]
        if isinstance(choices, list)
        else []
    )


def _add(answer: dict[str, str], calls: dict[object, str], choice: dict[str, Any]) -> None:
    """Append the content of a choice or of a streamed piece of one."""
    message = next(
        (m for m in (choice.get("message"), choice.get("delta")) if isinstance(m, dict)), {}
    )
    content = message.get("content") or message.get("parsed") or choice.get("text")
    answer["content"] += _text(content)
    answer["refusal"] += _text(message.get("refusal"))
    answer["reasoning"] += _text(message.get("reasoning_content") or message.get("reasoning"))
    tools = message.get("tool_calls")
    for number, call in enumerate(tools if isinstance(tools, list) else []):
        if isinstance(call, dict) and isinstance(call.get("function"), dict):
            index = str(call.get("index", number))
            calls[index] = calls.get(index, "") + _text(call["function"].get("arguments"))
    if isinstance(called := message.get("function_call"), dict):
        calls["function"] = calls.get("function", "") + _text(called.get("arguments"))


def _text(content: object) -> str:
    """Content as text, whether it is a string, a list of parts, or already parsed."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(
            _text(part.get("text") if isinstance(part, dict) else part) for part in content
        )
    return json.dumps(content) if isinstance(content, dict) else ""


# -- the answer in a message -------------------------------------------------------------------


def read_answer(texts: Sequence[str], schema: type[Schema]) -> tuple[Schema, str]:
    """The first JSON value in the texts that validates, and what had to be left out of it.

    Unknown keys are ignored, invalid items of a list are dropped individually, and a bare list
    stands for the only list of the schema.

    Raises:
        NoAnswerError: no value validates.
    """
    try:
        found = _first_valid(texts, schema)
    except RecursionError:
        raise NoAnswerError("it is nested too deeply") from None
    if isinstance(found, str):
        raise NoAnswerError(found)
    return found


def _first_valid(texts: Sequence[str], schema: type[Schema]) -> tuple[Schema, str] | str:
    """The answer, or why there is none."""
    values = [value for text in texts for value in islice(_values(text), MAX_VALUES)]
    inside = list(islice(_inside(values), MAX_VALUES))
    together = [[value for value in values if isinstance(value, dict)]]
    cut_off = [value for text in texts for value in _cut_off(text)]
    for candidates in (values, inside, together, cut_off):
        for forgiving in (False, True):
            for value in candidates:
                if found := _validated(value, schema, forgiving):
                    return found
    return _complaint(values, texts, schema)


def _values(text: str) -> Iterator[Any]:
    """JSON objects and lists in a text, those after its reasoning first."""
    thought = max([text.rfind(end) + len(end) for end in THOUGHTS_END if end in text], default=0)
    yield from _scan(text[thought:])
    yield from _scan(text[:thought])


def _scan(text: str) -> Iterator[Any]:
    decoder = json.JSONDecoder(strict=False)
    at = in_vain = 0
    while in_vain < MAX_SCANNED and (opening := OPENING.search(text, at)):
        try:
            value, at = decoder.raw_decode(text, opening.start())
            yield value
        except (ValueError, RecursionError):
            at = opening.start() + 1
            in_vain += len(text) - at


def _inside(values: list[Any]) -> Iterator[Any]:
    """Objects and lists nested in values, the outer ones first."""
    queue = deque(values)
    while queue:
        outer = queue.popleft()
        for value in outer.values() if isinstance(outer, dict) else outer:
            if isinstance(value, dict | list):
                queue.append(value)
                yield value


def _cut_off(text: str) -> Iterator[Any]:
    """Partial values of a text that ends within its JSON; an unfinished string is dropped."""
    for opening in islice(OPENING.finditer(text), 3):
        try:
            yield from_json(text[opening.start() :], allow_partial=True)
        except ValueError:
            continue


def _validated(value: Any, schema: type[Schema], forgiving: bool) -> tuple[Schema, str] | None:
    """The validated value and what was left out of it; None if it does not fit the schema."""
    if isinstance(value, list):
        lists = _lists(schema)
        if len(lists) != 1 or not value:
            return None
        value = {lists[0]: value}
    left_out: list[str] = []
    for _ in range(4):  # drop nulls first, then the items that lack them
        try:
            found = schema.model_validate(value, extra="ignore")
        except ValidationError as error:
            problems = error.errors(include_url=False, include_context=False)
            places = {_place(problem) for problem in problems}
            if not forgiving or () in places:
                return None
            left_out += [_said(p) for p in problems if isinstance(_place(p)[-1], int)]
            value = _without(value, places)
        else:
            kept = not left_out or any(getattr(found, name) for name in _lists(schema))
            return (found, "; ".join(left_out[:3])) if kept else None
    return None


def _lists(schema: type[BaseModel]) -> list[str]:
    fields = schema.model_fields.items()
    return [name for name, field in fields if get_origin(field.annotation) in (list, tuple)]


Place = tuple[int | str, ...]


def _place(problem: ErrorDetails) -> Place:
    """What to leave out to solve a problem: a null or an item of a list; () if nothing helps."""
    place = problem["loc"]
    if problem["input"] is None and place:
        return place
    items = [n for n, part in enumerate(place) if isinstance(part, int)]
    return place[: items[-1] + 1] if items else ()


def _without(node: Any, places: set[Place], at: Place = ()) -> Any:
    if isinstance(node, list):
        kept = [(n, item) for n, item in enumerate(node) if (*at, n) not in places]
        return [_without(item, places, (*at, n)) for n, item in kept]
    if isinstance(node, dict):
        fields = [(name, v) for name, v in node.items() if (*at, name) not in places]
        return {name: _without(v, places, (*at, name)) for name, v in fields}
    return node


def _said(problem: ErrorDetails) -> str:
    return f"{'.'.join(map(str, problem['loc']))[:80]}: {problem['msg']:.120}"


def _complaint(values: list[Any], texts: Sequence[str], schema: type[BaseModel]) -> str:
    """Why none of the values is a valid answer."""
    if not values:
        return f"no JSON in {''.join(texts)[:80]!r}"
    try:
        schema.model_validate(values[0], extra="ignore")
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False)
        return "; ".join(map(_said, problems[:3]))
    return "an empty list"
