"""One question to any OpenAI-compatible endpoint, and a reply that is bounded or explained.

Nothing that an endpoint does ends a run: down, slow, refusing, talking nonsense or too much, each
becomes a `Reply` without text and with a problem in words.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

MAX_REPLY = 1_000_000
"""Bytes read of any reply, error pages included."""


class ReplyTooLongError(RuntimeError):
    """The endpoint sent more than MAX_REPLY bytes."""


@dataclass(frozen=True)
class Reply:
    """What came back: text, or the problem that there is none."""

    text: str | None
    problem: str = ""


@dataclass(frozen=True)
class Endpoint:
    """Where the LLM is, from OPENAI_BASE_URL and OPENAI_API_KEY."""

    model: str
    timeout: float = 120.0
    """Seconds for a reply, retries included."""

    def check(self) -> None:
        """Raise ValueError where no key and no address are set."""
        if not os.environ.get("OPENAI_API_KEY") and not os.environ.get("OPENAI_BASE_URL"):
            raise ValueError(
                f"llm={self.model!r} needs the environment variable OPENAI_API_KEY, or "
                "OPENAI_BASE_URL for an endpoint of your own, and neither is set. Set one, give "
                "prompts=[...] yourself, or leave llm out."
            )

    async def ask(self, system: str, user: str, schema: type[BaseModel]) -> Reply:
        """Ask for JSON of a schema; the caller validates what comes."""
        try:
            async with asyncio.timeout(self.timeout):
                return _content(await self._post(system, user, schema))
        except TimeoutError:
            return Reply(None, f"no reply of the endpoint within {self.timeout:g} s")

    async def _post(self, system: str, user: str, schema: type[BaseModel]) -> str | Reply:
        import openai

        shape: Any = {"name": schema.__name__, "schema": schema.model_json_schema(), "strict": True}
        as_text = json.dumps(shape["schema"])
        messages: Any = [
            {"role": "system", "content": f"{system}\nReply with JSON only: {as_text}"},
            {"role": "user", "content": user},
        ]
        client = openai.AsyncOpenAI(
            api_key=os.environ.get("OPENAI_API_KEY") or "none",  # own endpoints want no key
            timeout=self.timeout,
            max_retries=1,
            http_client=openai.DefaultAsyncHttpxClient(event_hooks={"response": [_bound]}),
            default_headers={"Accept-Encoding": "identity"},
        )
        async with client:
            try:
                raw = await client.chat.completions.with_raw_response.create(
                    model=self.model,
                    messages=messages,
                    response_format={"type": "json_schema", "json_schema": shape},
                )
                return raw.http_response.text
            except (openai.OpenAIError, ReplyTooLongError) as error:
                return Reply(None, _explain(error))


async def _bound(response: Any) -> None:
    """Count what is read of a response, as the wire carries it, and stop at MAX_REPLY."""
    encoding = response.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise ReplyTooLongError(
            f"the endpoint sent {encoding}, unasked, whose size cannot be bounded"
        )
    http = importlib.import_module(type(response).__module__.partition(".")[0])

    class Bounded(http.AsyncByteStream):  # type: ignore[name-defined]
        def __init__(self, stream: Any) -> None:
            self.stream = stream

        async def __aiter__(self) -> AsyncIterator[bytes]:
            size = 0
            async for chunk in self.stream:
                size += len(chunk)
                if size > MAX_REPLY:
                    raise ReplyTooLongError(f"the endpoint sent more than {MAX_REPLY:,} bytes")
                yield chunk

        async def aclose(self) -> None:
            await self.stream.aclose()

    response.stream = Bounded(response.stream)


def _explain(error: BaseException) -> str:
    import openai

    if isinstance(error.__cause__, ReplyTooLongError):
        return str(error.__cause__)
    match error:
        case openai.AuthenticationError():
            return "401, the endpoint refuses the key: set OPENAI_API_KEY to a valid one"
        case openai.RateLimitError():
            return f"429, the endpoint is out of quota or too busy: {error!s:.200}"
        case openai.APIStatusError():
            return f"{error.status_code} from the endpoint: {error!s:.200}"
        case openai.APITimeoutError():
            return "the endpoint did not reply in time"
        case openai.APIConnectionError():
            cause = error.__cause__ or error
            return f"the endpoint cannot be reached ({cause!s:.200}): check OPENAI_BASE_URL"
        case _:
            return f"{error!s:.200}"


class _Message(BaseModel):
    model_config = ConfigDict(extra="ignore")
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    model_config = ConfigDict(extra="ignore")
    message: _Message


class _Completion(BaseModel):
    model_config = ConfigDict(extra="ignore")
    choices: list[_Choice]


def _content(body: str | Reply) -> Reply:
    """The message of a chat completion."""
    if isinstance(body, Reply):
        return body
    try:
        message = _Completion.model_validate_json(body).choices[0].message
    except (ValidationError, IndexError):
        return Reply(None, f"the endpoint's reply is no chat completion: {body[:80]!r}")
    if not message.content:
        return Reply(None, f"the LLM gave no text: {message.refusal or 'empty'!s:.200}")
    return Reply(message.content)
