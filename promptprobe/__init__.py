"""promptprobe turns a request for a picture into the prompt and seed that draw it best.

Public names load on first use, so that `import promptprobe` and `promptprobe --help` stay fast:
torch, diffusers and transformers are imported by the first call that needs them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from promptprobe.agent.doors.session import Session
    from promptprobe.agent.doors.stream import StreamEvent, stream
    from promptprobe.agent.doors.tool_calls.dispatch import (
        acall_tool,
        as_node,
        call_tool,
        langchain_tools,
    )
    from promptprobe.agent.doors.tool_calls.owner import Owner
    from promptprobe.agent.doors.tool_calls.table import tool_schemas
    from promptprobe.agent.doors.training import train_probe
    from promptprobe.agent.optimize import aoptimize_prompt, optimize_prompt
    from promptprobe.agent.probe_prompts import probe_prompts
    from promptprobe.agent.result import OptimizationResult
    from promptprobe.agent.rewrite.proposers import Proposer
    from promptprobe.agent.rewrite.review import Review
    from promptprobe.agent.search.choice import Choice
    from promptprobe.tools.endpoint.endpoint import LLM
    from promptprobe.tools.records import (
        BUDGETS,
        Budget,
        Candidate,
        Generation,
        Prediction,
        Score,
        Spend,
        Trial,
        Verdict,
    )
    from promptprobe.tools.scorers.scorer import Scorer

__version__ = "0.1.0"

__all__ = [
    "BUDGETS",
    "LLM",
    "Budget",
    "Candidate",
    "Choice",
    "Generation",
    "OptimizationResult",
    "Owner",
    "Prediction",
    "Proposer",
    "Review",
    "Score",
    "Scorer",
    "Session",
    "Spend",
    "StreamEvent",
    "Trial",
    "Verdict",
    "__version__",
    "acall_tool",
    "aoptimize_prompt",
    "as_node",
    "call_tool",
    "langchain_tools",
    "optimize_prompt",
    "probe_prompts",
    "stream",
    "tool_schemas",
    "train_probe",
]

_HOMES = {
    "aoptimize_prompt": "promptprobe.agent.optimize",
    "optimize_prompt": "promptprobe.agent.optimize",
    "OptimizationResult": "promptprobe.agent.result",
    "probe_prompts": "promptprobe.agent.probe_prompts",
    "Session": "promptprobe.agent.doors.session",
    "stream": "promptprobe.agent.doors.stream",
    "StreamEvent": "promptprobe.agent.doors.stream",
    "train_probe": "promptprobe.agent.doors.training",
    "LLM": "promptprobe.tools.endpoint.endpoint",
    "Proposer": "promptprobe.agent.rewrite.proposers",
    "Scorer": "promptprobe.tools.scorers.scorer",
    "Review": "promptprobe.agent.rewrite.review",
    "Choice": "promptprobe.agent.search.choice",
    "Owner": "promptprobe.agent.doors.tool_calls.owner",
    "tool_schemas": "promptprobe.agent.doors.tool_calls.table",
    "call_tool": "promptprobe.agent.doors.tool_calls.dispatch",
    "acall_tool": "promptprobe.agent.doors.tool_calls.dispatch",
    "langchain_tools": "promptprobe.agent.doors.tool_calls.dispatch",
    "as_node": "promptprobe.agent.doors.tool_calls.dispatch",
}


def __getattr__(name: str) -> Any:
    """Import a public name from the module where it lives (PEP 562).

    Raises:
        AttributeError: the package has no such public name.
    """
    if name not in __all__:
        raise AttributeError(f"module 'promptprobe' has no attribute {name!r}")
    value = getattr(import_module(_HOMES.get(name, "promptprobe.tools.records")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
