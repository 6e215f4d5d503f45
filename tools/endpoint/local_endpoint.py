"""An LLM in this process instead of an endpoint: it answers the same questions, and no text leaves.

The model is loaded for the questions of one round and released before the image model works again.
Its output is as untrusted as an endpoint's and read by the same code.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from promptprobe.tools.endpoint.endpoint import LLM, Reply
from promptprobe.tools.endpoint.json_schema import strict_schema
from promptprobe.tools.endpoint.reply_json import NoAnswerError, read_answer

if TYPE_CHECKING:
    from promptprobe.tools.local_llm import LocalLlm

PREFIX = "local:"
MAX_TOKENS, TEMPERATURE = 1024, 0.7
"""Defaults if the caller gives none. At temperature 0 a small model repeats itself."""
MOST_ITEMS, MOST_LETTERS = 16, 600
"""Limits of lists and strings in a reply: a small model may otherwise run into its token limit."""


@dataclass
class LocalEndpoint:
    """Asks a model named `local:FOLDER_OR_ID`."""

    llm: LLM
    resident: bool = False
    """Whether to keep the model between questions, if nothing else needs the memory."""
    _model: LocalLlm | None = field(default=None, init=False)

    @property
    def model(self) -> str:
        return self.llm.model

    def check(self) -> None:
        """Raise ValueError if the model certainly does not exist, or a library is missing."""
        if self.llm.base_url is not None:
            raise ValueError(f"llm={self.model!r} runs in this process and has no base_url")
        if self.llm.vision:
            raise ValueError(f"llm={self.model!r}: a model in this process cannot see pictures")
        self._opened()

    async def ask(
        self, system: str, user: str, schema: type[BaseModel], picture: bytes | None = None
    ) -> Reply:
        """Ask for JSON of a schema, which constrained decoding enforces."""
        assert picture is None, "check() has refused vision"
        stop = threading.Event()
        began = time.monotonic()

        def go_on() -> bool:
            return not stop.is_set() and time.monotonic() - began < self.llm.timeout

        try:
            return await asyncio.to_thread(self._ask, system, user, schema, go_on)
        except (ValueError, RuntimeError) as error:
            return Reply(None, str(error))
        finally:
            stop.set()

    def release(self) -> None:
        """Free the model's memory until the next question."""
        if self._model is not None and not self.resident:
            self._model.release()

    def _ask(self, system: str, user: str, schema: type[BaseModel], go_on: Any) -> Reply:
        from promptprobe.tools.local_llm import Sampling

        shape = strict_schema(schema)
        instructions = f"{system}\nReply with JSON only, of this schema: {json.dumps(shape)}"
        question = f"{self.model}\n{instructions}\n{user}"
        sampling = Sampling(
            max_tokens=self.llm.max_tokens or MAX_TOKENS,
            temperature=TEMPERATURE if self.llm.temperature is None else self.llm.temperature,
            seed=int(hashlib.sha256(question.encode()).hexdigest()[:8], 16),
            go_on=go_on,
        )
        done = self._opened().complete(instructions, user, _bounded(shape), sampling)
        length = ", and the reply ended at its length or time limit" if done.cut_off else ""
        try:
            found, left_out = read_answer([done.text], schema)
        except NoAnswerError as error:
            problem = f"its reply is not the JSON asked for ({error}){length}"
            return Reply(None, problem, tokens=done.tokens)
        note = f"left out of the reply: {left_out}" if left_out else ""
        return Reply(found.model_dump_json(), note + length, tokens=done.tokens)

    def _opened(self) -> LocalLlm:
        if self._model is None:
            from promptprobe.tools.local_llm import LocalLlm

            self._model = LocalLlm(self.model.removeprefix(PREFIX))
        return self._model


def _bounded(node: Any) -> Any:
    """The schema with a maximum length for every list and string."""
    if isinstance(node, list):
        return [_bounded(item) for item in node]
    if not isinstance(node, dict):
        return node
    bounds = {"array": {"maxItems": MOST_ITEMS}, "string": {"maxLength": MOST_LETTERS}}
    kind = node.get("type")
    own = bounds.get(kind, {}) if isinstance(kind, str) else {}
    return {**{key: _bounded(value) for key, value in node.items()}, **own}
