"""A finished run whose every text is hostile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from promptprobe.agent.events import Refusal
from promptprobe.agent.ledger import FILE, Ledger, ProposedLine, WarningLine
from promptprobe.agent.optimize import wait_for
from promptprobe.agent.result import OptimizationResult, read_result
from promptprobe.agent.rewrite.proposers import CallersPrompts
from promptprobe.agent.runner import run_loop
from tests.agent.scripted import ScriptedTools, start

SCRIPT = "<script>console.log('run')</script>"
HOSTILE = (
    f"a cat {SCRIPT}",
    'a cat"><img src="https://example.org/spy.png" onerror="console.log(1)">',
    "a cat </style><style>*{display:none}</style> {{ 7 * 7 }} \u202eright to left",
)
BRIEF = f"a cat next to a car {SCRIPT}"


def hostile_run(out: Path, **settings: Any) -> OptimizationResult:
    """A run whose brief, prompts, refusals and warnings are markup."""
    out.mkdir(parents=True, exist_ok=True)
    run_dir = start(out, brief=BRIEF, prompts=HOSTILE, **settings)
    wait_for(run_loop(run_dir, ScriptedTools(out / "log"), CallersPrompts(HOSTILE)))
    Ledger(run_dir).write(
        [
            ProposedLine(round=9, accepted=(), refused=(Refusal(prompt=SCRIPT, reason=SCRIPT),)),
            WarningLine(message=f"{SCRIPT} \x1b[2J"),
        ]
    )
    assert "<script>" in (run_dir / FILE).read_text()
    return read_result(run_dir)
