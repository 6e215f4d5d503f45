"""Asks any OpenAI-compatible endpoint a question; returns a validated answer or a failure in words.

Nothing that an endpoint does ends a run. What it supports (a JSON schema, JSON, or only text; a
system message; the name of the token limit) is found out by trying, and remembered for the run.
instructor and pydantic-ai do something similar, but the caller must choose the form, they only read
the place where that form puts its JSON, and they bring a framework along.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from base64 import b64encode
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

from promptprobe.tools.endpoint.http_client import (
    API,
    HttpClient,
    RefusedError,
    without_secret,
)
from promptprobe.tools.endpoint.json_schema import strict_schema
from promptprobe.tools.endpoint.manner import Manner
from promptprobe.tools.endpoint.reply_json import (
    NoAnswerError,
    NoMessageError,
    TokenChances,
    read_answer,
    read_message,
    read_probabilities,
)
from promptprobe.tools.records import Record, Text

DEFAULT_KEY = "OPENAI_API_KEY"


class LLM(Record):
    """An LLM at an OpenAI-compatible endpoint. Its key is in the environment, never here."""

    model_config = ConfigDict(hide_input_in_errors=True)

    model: Text = Field(
        description="its name at the endpoint; local:FOLDER_OR_ID runs in this process"
    )
    base_url: str | None = Field(
        default=None, max_length=2000, description="None: OPENAI_BASE_URL, or OpenAI's own"
    )
    api_key_env: str = Field(
        default=DEFAULT_KEY,
        description="name of the environment variable with the key, in capitals",
    )
    temperature: float | None = Field(
        default=None, ge=0, le=2, description="None: the endpoint's own"
    )
    max_tokens: int | None = Field(
        default=None, ge=1, le=1_000_000, description="token limit of one reply"
    )
    timeout: float = Field(
        default=120.0, gt=0, le=3600, description="seconds for one answer, retries included"
    )
    vision: bool = Field(
        default=False, description="show it a contact sheet of what was drawn so far"
    )
    price_in: float | None = Field(
        default=None, ge=0, description="US dollars per million prompt tokens"
    )
    price_out: float | None = Field(
        default=None, ge=0, description="US dollars per million completion tokens"
    )
    guidance: str = Field(
        default="", max_length=1000, description='how to write, such as "tags, not sentences"'
    )

    def cost(self, asked: int, answered: int) -> float:
        """US dollars for these tokens; tokens without a price cost nothing."""
        return (asked * (self.price_in or 0) + answered * (self.price_out or 0)) / 1e6

    @field_validator("api_key_env")
    @classmethod
    def _a_name(cls, name: str) -> str:
        if not re.fullmatch("[A-Z][A-Z0-9_]{0,99}", name):
            raise ValueError(
                "expected the name of an environment variable, in capitals, such as "
                f"{DEFAULT_KEY}; the key itself goes into that variable"
            )
        return name

    @field_validator("base_url")
    @classmethod
    def _plain_address(cls, url: str | None) -> str | None:
        if url is not None and (problem := address_problem(url)):
            raise ValueError(problem)
        if url is not None and re.search(r"[@?#]", url):
            raise ValueError(
                "base_url is written into the run's folder and must not contain a user, password, "
                "query or fragment; the key goes into the environment variable in api_key_env"
            )
        return url


def check_endpoint(stored: LLM | None, given: LLM | None) -> None:
    """Check the LLM of a resumed run: a stranger's run folder may name any address and any key.

    Raises:
        ValueError: the run uses an address or key that the caller has not given again.
    """
    if stored is None or (stored.base_url is None and stored.api_key_env == DEFAULT_KEY):
        return
    if given is None or (given.base_url, given.api_key_env) != (
        stored.base_url,
        stored.api_key_env,
    ):
        raise ValueError(
            f"this run asks its LLM at {stored.base_url or 'OPENAI_BASE_URL'} with the key in "
            f"{stored.api_key_env}: if you trust that address with that key, give the LLM again"
        )


def address_problem(url: str) -> str:
    """What is wrong with a base URL; empty if nothing is."""
    expected = "expected a base URL such as http://127.0.0.1:8000/v1, got"
    if re.search(r"[^\x21-\x7e]", url):
        return f"{expected} one with a space, a control character or a letter beyond ASCII"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        return f"{expected} one that cannot be read ({error})"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return f"{expected} one without http:// or https:// and a host"
    return ""


@dataclass(frozen=True)
class Reply:
    """An answer, as JSON that has passed the schema, or the reason that there is none."""

    text: str | None
    problem: str = ""
    """Why there is no text or, if there is, what was left out of it."""
    calls: int = 1
    """Number of requests that it took."""
    tokens: int = 0
    """Tokens of prompts and completions, as far as the endpoint reports them."""
    usd: float = 0.0
    """Price of the tokens, if prices were given."""


@dataclass(frozen=True)
class SureReply(Reply):
    """An answer with the probabilities of its tokens."""

    probabilities: tuple[TokenChances, ...] = ()
    """Empty if the endpoint gives none."""


@dataclass(frozen=True)
class Question:
    """The content of one request."""

    system: str
    user: str
    schema: type[BaseModel]
    picture: bytes | None = None
    """A JPEG to send along."""
    probabilities: bool = False
    """Whether to request token probabilities; the reply is then a `SureReply`."""


@dataclass
class Endpoint:
    """Asks an LLM on behalf of one run, and remembers what the endpoint supports."""

    llm: LLM
    manner: Manner = field(default_factory=Manner)
    wasted: float = field(default=0.0, init=False)
    """Seconds spent in vain since the last answer; at `timeout` the endpoint is given up."""

    @property
    def model(self) -> str:
        return self.llm.model

    def check(self) -> None:
        """Raise ValueError, before anything is spent, if key or address cannot be used."""
        key, url = self._key(), self._base_url()
        name = self.llm.api_key_env
        own_address = self.llm.base_url or os.environ.get("OPENAI_BASE_URL")
        if not key and (not own_address or name != DEFAULT_KEY):
            raise ValueError(
                f"llm={self.model!r} needs the environment variable {name}, or, for an endpoint "
                "of your own that wants no key, OPENAI_BASE_URL, and it is not set. Set it, give "
                "prompts=[...] yourself, or leave llm out."
            )
        if re.search(r"[^\x21-\x7e]", key):
            raise ValueError(
                f"{name} holds a space, a control character or a letter beyond ASCII, which "
                "cannot be sent in an HTTP header: copy the key again"
            )
        if problem := address_problem(url):
            raise ValueError(f"{'base_url' if self.llm.base_url else 'OPENAI_BASE_URL'}: {problem}")

    def release(self) -> None:
        """Nothing is held here between questions."""

    async def ask(
        self,
        system: str,
        user: str,
        schema: type[BaseModel],
        picture: bytes | None = None,
        probabilities: bool = False,
    ) -> Reply:
        """Ask for JSON of a schema; an invalid answer is requested once more with what is wrong.

        Args:
            picture: a JPEG to send along.
            probabilities: also request token probabilities; the reply is then a `SureReply`.
        """
        patience = self.llm.timeout - self.wasted
        if patience <= 0.05 * self.llm.timeout:
            spent = f"{self.wasted:.0f} s went by without an answer"
            return Reply(None, f"the LLM is not asked any more in this run: {spent}", 0)
        client = HttpClient(self._base_url(), self._key() or "none", self.llm.api_key_env)
        began = time.monotonic()
        try:
            async with asyncio.timeout(patience):
                reply = await self._ask(
                    client, Question(system, user, schema, picture, probabilities)
                )
        except TimeoutError:
            reply = Reply(None, f"no reply of {client.address} within {patience:g} s")
        except RefusedError as error:
            reply = Reply(None, str(error))
        lost = time.monotonic() - began
        self.wasted = self.wasted + lost if reply.text is None else 0.0
        return self._without_secrets(replace(reply, calls=client.sent))

    async def _ask(self, client: HttpClient, question: Question) -> Reply:
        complaint, asked, answered = "", 0, 0

        def reply(text: str | None, problem: str) -> Reply:
            cost = self.llm.cost(asked, answered)
            return Reply(text, problem, tokens=asked + answered, usd=cost)

        for _ in range(2):
            asked_now = replace(question, user=question.user + complaint)
            body = await self._post(client, asked_now)
            try:
                message = read_message(body)
            except NoMessageError as error:
                return reply(None, f"{client.address} sent {error}{client.hint}")
            asked, answered = asked + message.asked, answered + message.answered
            length = ", and the reply ended at its length limit" if message.cut_off else ""
            if not message.texts:
                reason = message.refusal or "empty"
                problem = f"the LLM gave no text: {reason:.200}{length}"
            else:
                try:
                    found, left_out = read_answer(message.texts, question.schema)
                except NoAnswerError as error:
                    problem = f"its reply is not the JSON asked for ({error}){length}"
                else:
                    note = f"left out of the reply: {left_out}" if left_out else ""
                    if question.picture and not self.manner.picture:
                        note += ", and it takes no picture" if note else "it takes no picture"
                    found_reply = reply(found.model_dump_json(), note + length)
                    if not question.probabilities:
                        return found_reply
                    return SureReply(**vars(found_reply), probabilities=read_probabilities(body))
            complaint = f"\n\nYour last reply could not be used: {problem}. Reply with JSON only."
        return reply(None, problem)

    async def _post(self, client: HttpClient, question: Question) -> str:
        """The body of a reply, in the first manner that the endpoint accepts."""
        manner: Manner | None = self.manner
        while manner is not None:
            try:
                arguments = self._arguments(manner, question)
                body = await client.post(arguments, self.llm.timeout)
                if error := _error_under_200(body):
                    raise RefusedError(
                        f"{client.address} answered 200 with an error: {error}", 200, error
                    )
            except RefusedError as refusal:
                manner = manner.conceded(refusal, self.llm)
                if manner is None:
                    raise
            else:
                self.manner = manner
                return body
        raise AssertionError("the last manner either answers or raises")

    def _arguments(self, manner: Manner, question: Question) -> dict[str, Any]:
        shape, user = strict_schema(question.schema), question.user
        system = f"{question.system}\nReply with JSON only, of this schema: {json.dumps(shape)}"
        messages: list[dict[str, Any]] = [
            {"role": "system", "content": system},
            {"role": "user", "content": user},
        ]
        if not manner.system:
            messages = [{"role": "user", "content": f"{system}\n\n{user}"}]
        if question.picture and manner.picture:
            _show(messages[-1], question.picture)
        arguments: dict[str, Any] = {"model": self.llm.model, "messages": messages}
        if question.probabilities and manner.logprobs:
            arguments |= {"logprobs": True, "top_logprobs": 10}
        if manner.form == "json_schema":
            named = {"name": question.schema.__name__.strip("_"), "schema": shape, "strict": True}
            arguments["response_format"] = {"type": "json_schema", "json_schema": named}
        elif manner.form == "json_object":
            arguments["response_format"] = {"type": "json_object"}
        if self.llm.temperature is not None and manner.temperature:
            arguments["temperature"] = self.llm.temperature
        if self.llm.max_tokens is not None and manner.limit:
            arguments[manner.limit] = self.llm.max_tokens
        return arguments

    def _key(self) -> str:
        return os.environ.get(self.llm.api_key_env, "").strip()

    def _base_url(self) -> str:
        return self.llm.base_url or os.environ.get("OPENAI_BASE_URL", "").strip() or API

    def _without_secrets(self, reply: Reply) -> Reply:
        """The reply without the key, which an endpoint may echo, escaped or not."""
        text = reply.text and without_secret(reply.text, json.dumps(self._key())[1:-1])
        return replace(reply, text=text, problem=without_secret(reply.problem, self._key()))


def _show(message: dict[str, Any], picture: bytes) -> None:
    """Add a JPEG to a message."""
    url = f"data:image/jpeg;base64,{b64encode(picture).decode()}"
    text = {"type": "text", "text": message["content"]}
    message["content"] = [text, {"type": "image_url", "image_url": {"url": url}}]


def _error_under_200(body: str) -> str:
    try:
        read_message(body)
    except NoMessageError as error:
        return error.error
    return ""
