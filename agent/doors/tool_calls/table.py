"""The tools that agents call, and their schemas in the formats that clients accept.

The schemas are plain JSON Schema without references, so that any client and LLM server reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from promptprobe.agent.doors.replies import OptimizeReply, ProbeReply
from promptprobe.agent.doors.schemas import OptimizeArguments, ProbeArguments, Request
from promptprobe.tools.endpoint.json_schema import json_schema, strict_schema
from promptprobe.tools.nearest import did_you_mean
from promptprobe.tools.records import Record

Format = Literal["openai", "anthropic", "json-schema"]


@dataclass(frozen=True)
class ToolSpec:
    """A tool: its description, arguments and reply."""

    description: str
    arguments: type[Request]
    reply: type[Record]


TOOLS: Mapping[str, ToolSpec] = {
    "optimize_prompt": ToolSpec(
        "Find the prompt and seed with which a text-to-image model draws a brief best. Candidates "
        "are judged after a few denoising steps; only the most promising are rendered in full and "
        "scored. Pass your own rewrites of the brief as `prompts`, read the explanations, and call "
        "again with better ones. Without `prompts`, rewrites are proposed for you if the model has "
        "a rewriter or an LLM is set up; otherwise only seeds are searched.",
        OptimizeArguments,
        OptimizeReply,
    ),
    "probe_prompts": ToolSpec(
        "Predict how well prompts x seeds would draw a brief, from the first denoising steps "
        "alone: no picture is rendered. Cheap; use it to compare wordings before optimize_prompt.",
        ProbeArguments,
        ProbeReply,
    ),
}


def tool_schemas(format: Format = "openai") -> list[dict[str, Any]]:
    """The schemas of the tools to give to an LLM; `call_tool` runs its calls.

    Args:
        format: "openai" for Chat Completions (strict mode), "anthropic" for Messages, or
            "json-schema" for anything else, which includes the schemas of results.

    Raises:
        ValueError: the format is none of these.
    """
    if format not in get_args(Format):
        names = get_args(Format)
        meant = did_you_mean(format, names)
        raise ValueError(f"expected one of {', '.join(names)}, got {format!r:.80}{meant}")
    return [_in_format(format, name, spec) for name, spec in TOOLS.items()]


def _in_format(format: Format, name: str, spec: ToolSpec) -> dict[str, Any]:
    named = {"name": name, "description": spec.description}
    if format == "openai":
        strict = {"strict": True, "parameters": strict_schema(spec.arguments)}
        return {"type": "function", "function": {**named, **strict}}
    if format == "anthropic":
        return {**named, "input_schema": json_schema(spec.arguments)}
    return {
        **named,
        "inputSchema": json_schema(spec.arguments),
        "outputSchema": json_schema(spec.reply, mode="serialization"),
    }
