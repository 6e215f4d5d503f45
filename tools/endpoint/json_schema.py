"""JSON schemas of pydantic models in the form that LLM servers accept: strict, without `$ref`."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel


def json_schema(
    record: type[BaseModel], mode: Literal["validation", "serialization"] = "validation"
) -> dict[str, Any]:
    """The JSON schema of a record, readable by any client.

    References are inlined, and pydantic's own `format: path` is removed.
    """
    schema = record.model_json_schema(mode=mode)
    inlined: dict[str, Any] = _inline(schema, schema.get("$defs", {}))
    return inlined


def _inline(node: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(node, list):
        return [_inline(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    siblings = {
        key: _inline(value, definitions)
        for key, value in node.items()
        if key not in ("$ref", "$defs") and (key, value) != ("format", "path")
    }
    if "$ref" in node:
        return {**_inline(definitions[node["$ref"].rsplit("/", 1)[1]], definitions), **siblings}
    return siblings


# Keywords that OpenAI's strict mode refuses; they are put into the description instead.
_IN_WORDS = {"minLength": "not empty", "maxLength": "at most {} characters"}


def strict_schema(request: type[BaseModel]) -> dict[str, Any]:
    """The schema under OpenAI's strict rules: all fields required, no other ones, no defaults.

    Source: https://platform.openai.com/docs/guides/structured-outputs, "Supported schemas".
    """
    strict: dict[str, Any] = _strict(json_schema(request))
    return strict


def _strict(node: Any) -> Any:
    if isinstance(node, list):
        return [_strict(item) for item in node]
    if not isinstance(node, dict):
        return node
    out = {k: _strict(v) for k, v in node.items() if k not in {"title", "default", *_IN_WORDS}}
    words = [text.format(node[key]) for key, text in _IN_WORDS.items() if key in node]
    if words:
        out["description"] = "; ".join([*filter(None, [out.get("description")]), *words])
    if isinstance(node.get("properties"), dict):
        required = node.get("required", [])
        out["properties"] = {
            name: _strict(field) if name in required else _nullable(_strict(field), field)
            for name, field in node["properties"].items()
        }
        out["required"] = list(node["properties"])
        out["additionalProperties"] = False
    return out


def _nullable(field: dict[str, Any], plain: dict[str, Any]) -> dict[str, Any]:
    """Make a field with a default nullable; null means the default, which is in the description."""
    default = plain.get("default")
    if default is not None and not isinstance(default, dict):
        note = f"null: {json.dumps(default)}"
        field = {**field, "description": "; ".join(filter(None, [field.get("description"), note]))}
    options = field.get("anyOf")
    if options is not None:
        null = [] if {"type": "null"} in options else [{"type": "null"}]
        return {**field, "anyOf": [*options, *null]}
    description = {"description": field["description"]} if "description" in field else {}
    inner = {k: v for k, v in field.items() if k != "description"}
    return {**description, "anyOf": [inner, {"type": "null"}]}
