"""The features that an endpoint supports, and what to try next after a refusal.

Servers differ in whether they accept a JSON schema, a system message, a temperature or a picture,
and in the name of the token limit. Each refusal makes us give up one of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from promptprobe.tools.endpoint.http_client import RefusedError

if TYPE_CHECKING:
    from promptprobe.tools.endpoint.endpoint import LLM


@dataclass(frozen=True)
class Manner:
    """The features to use in a request."""

    form: Literal["json_schema", "json_object", "text"] = "json_schema"
    system: bool = True
    temperature: bool = True
    logprobs: bool = True
    """Whether to request token probabilities."""
    limit: Literal["max_tokens", "max_completion_tokens", ""] = "max_tokens"
    picture: bool = True
    """Whether to send pictures."""

    def conceded(self, refusal: RefusedError, llm: LLM) -> Manner | None:
        """The next manner to try after a refusal; None if it is about something else."""
        body = refusal.body.lower()
        limited = llm.max_tokens is not None and self.limit != ""
        if refusal.status not in (200, 400, 415, 422, 500, 501):
            return None
        if named := self._without_named(body, llm):
            return named
        if self.form != "text" and re.search(
            "response_format|json|schema|grammar|structured", body
        ):
            return self._simpler_form()
        if self.system and re.search("system|role", body):
            return replace(self, system=False)
        if refusal.status not in (400, 422, 501):
            return None
        if self.form != "text":
            return self._simpler_form()
        if self.system:
            return replace(self, system=False)
        if llm.temperature is not None and self.temperature:
            return replace(self, temperature=False)
        if limited:
            return self._other_limit()
        return replace(self, picture=False) if llm.vision and self.picture else None

    def _without_named(self, body: str, llm: LLM) -> Manner | None:
        """This manner without the feature that the refusal names; None if it names none."""
        if self.logprobs and "logprob" in body:
            return replace(self, logprobs=False)
        if (
            llm.max_tokens is not None
            and self.limit != ""
            and re.search("max_tokens|max_completion_tokens", body)
        ):
            return self._other_limit()
        if llm.vision and self.picture and re.search("image|vision|multi-?modal", body):
            return replace(self, picture=False)
        if llm.temperature is not None and self.temperature and "temperature" in body:
            return replace(self, temperature=False)
        return None

    def _simpler_form(self) -> Manner:
        return replace(self, form="json_object" if self.form == "json_schema" else "text")

    def _other_limit(self) -> Manner:
        return replace(self, limit="max_completion_tokens" if self.limit == "max_tokens" else "")
