"""Prompts x seeds -> predictions, and nothing else: no picture, no run folder, no LLM."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from promptprobe.agent.replies import ProbeReply, Probing
from promptprobe.agent.schemas import ProbeRequest
from promptprobe.tools.protocol import Tools
from promptprobe.tools.records import Candidate, Spend

Report = Callable[[float, float, str], None]
"""Told how many of how many candidates are done, and in words; may raise to cancel."""


def probe_prompts(request: ProbeRequest, report: Report) -> ProbeReply:
    """Open the model and probe every prompt with every seed.

    Raises:
        ValueError: model or scorer cannot be opened, or the model can draw nothing of the brief.
    """
    from promptprobe.tools.models import open_toolbox

    tools = open_toolbox(request.model, request.generation, request.scorer)
    return probe_with(tools, request, report)


def probe_with(tools: Tools, request: ProbeRequest, report: Report) -> ProbeReply:
    """The same with tools that are already open; one batch a prompt, its latents discarded."""
    began = time.monotonic()
    warnings = tools.check_brief(request.brief)
    prompts = tuple(dict.fromkeys(request.prompts))
    seeds = tuple(dict.fromkeys(request.seeds))
    found: list[Probing] = []
    nfe = 0
    for number, prompt in enumerate(prompts, 1):
        batch = [Candidate(prompt=prompt, seed=seed) for seed in seeds]
        with tempfile.TemporaryDirectory(prefix="promptprobe-") as folder:
            probed = tools.probe(request.brief, batch, Path(folder))
        nfe += sum(p.nfe for p in probed)
        found += [
            Probing(candidate=c, prediction=p.prediction, reason=p.reason, cut=p.cut)
            for c, p in zip(batch, probed, strict=True)
        ]
        report(number * len(seeds), len(prompts) * len(seeds), f"probed prompt {number}")
    return ProbeReply(
        brief=request.brief,
        predictions=tuple(sorted(found, key=_foretold, reverse=True)),
        steps=tools.probe_steps,
        of=tools.settings_used.steps,
        spent=Spend(nfe=nfe, seconds=time.monotonic() - began),
        warnings=tuple(warnings),
    )


def _foretold(probing: Probing) -> float:
    """For sorting: a candidate without a prediction comes last."""
    return probing.prediction.score if probing.prediction else float("-inf")
