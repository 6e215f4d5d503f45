"""One request from start to contact sheet: what every door does with an `OptimizeRequest`."""

from __future__ import annotations

from pathlib import Path

from promptprobe.agent.doors.display import SHEET
from promptprobe.agent.doors.schemas import OptimizeRequest
from promptprobe.agent.events import OnEvent
from promptprobe.agent.optimize import optimize_prompt
from promptprobe.agent.result import OptimizationResult
from promptprobe.tools.pictures.contact_sheet import save_contact_sheet


def run_request(
    request: OptimizeRequest, out: Path, on_event: OnEvent, resume: Path | None = None
) -> OptimizationResult:
    """Run `optimize_prompt` and leave the contact sheet in the run's folder. Raises as it does."""
    result = optimize_prompt(**request.arguments(), out=out, on_event=on_event, resume=resume)
    save_contact_sheet(
        result.run_dir / SHEET, result.brief, result.initial, result.best, result.trials
    )
    return result
