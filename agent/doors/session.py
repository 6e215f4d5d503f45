"""One request from start to contact sheet: what every door does with an `OptimizeRequest`."""

from __future__ import annotations

from pathlib import Path

from promptprobe.agent.doors.display import SHEET
from promptprobe.agent.doors.schemas import OptimizeRequest
from promptprobe.agent.events import OnEvent
from promptprobe.agent.optimize import go_on, start, wait_for
from promptprobe.agent.result import OptimizationResult
from promptprobe.agent.rewrite.endpoint import LLM
from promptprobe.agent.rewrite.review import Approve
from promptprobe.tools.pictures.contact_sheet import save_contact_sheet


def run_request(
    request: OptimizeRequest,
    out: Path,
    on_event: OnEvent,
    resume: Path | None = None,
    llm: LLM | None = None,
    approve: Approve | None = None,
) -> OptimizationResult:
    """Run a request, or go on with a run, and leave the contact sheet in the run's folder.

    Raises:
        ValueError: something asked for cannot be used.
        OSError: the folder cannot be written.
    """
    if resume is None:
        result = wait_for(start(request, out, on_event, llm=llm, approve=approve))
    else:
        result = wait_for(go_on(resume, on_event, llm=llm, approve=approve))
    save_contact_sheet(
        result.run_dir / SHEET, result.brief, result.initial, result.best, result.trials
    )
    return result
