"""Predictions for prompts x seeds, and nothing else: no renders, no run folder, no LLM.

Contains `probe_prompts` for Python, and what every door does with a `ProbeRequest`. Only heat maps
are kept, if requested.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from promptprobe.agent.doors.replies import ProbeReply, ProbeRow
from promptprobe.agent.doors.schemas import ProbeRequest, checked
from promptprobe.agent.given import (
    DEFAULT_GENERATION,
    Judges,
    OpenTools,
    named,
    object_of,
    opened,
)
from promptprobe.agent.run_folder import check_folder
from promptprobe.tools.models.built_in import built_in
from promptprobe.tools.prompt_files import foreign_syntax
from promptprobe.tools.protocol import Probed, Tools
from promptprobe.tools.records import Candidate, Generation, Spend

INDEX = "index.png"

Report = Callable[[float, float, str], None]
"""Called with (candidates done, candidates in all, message); may raise to cancel."""


def probe_prompts(
    brief: str,
    prompts: Sequence[str] | None = None,
    *,
    seeds: Sequence[int] = (0, 1, 2, 3),
    model: str | Path | Any = "sprites",
    generation: Generation = DEFAULT_GENERATION,
    scorer: Judges | None = None,
    probe: str | Path | None = None,
    heatmaps: str | Path | None = None,
) -> ProbeReply:
    """Rank prompts x seeds by their first denoising steps, the most promising first.

    Args:
        brief: what the picture should show; predictions are against it.
        prompts: wordings to compare; None: the brief alone.
        seeds: used for every prompt.
        model, generation, scorer, probe: as in `optimize_prompt`.
        heatmaps: folder for a picture of each candidate's attention and an index of them.

    Raises:
        ValueError: an argument cannot be used, or the model can draw nothing in the brief.
        OSError: `heatmaps` cannot be written.
    """
    given = {
        "brief": brief,
        "prompts": [brief] if prompts is None else prompts,
        "seeds": seeds,
        "generation": generation,
    }
    request = checked(ProbeRequest, named(model, scorer, probe) | given)
    folder = None if heatmaps is None else Path(heatmaps)
    open_tools = partial(opened, model=object_of(model), scorer=scorer)
    return answer(request, lambda *_: None, folder, open_tools)


def answer(
    request: ProbeRequest,
    report: Report,
    heatmaps: Path | None = None,
    open_tools: OpenTools = opened,
) -> ProbeReply:
    """Open the model and probe every prompt with every seed.

    Args:
        request: what to probe.
        report: called with the progress.
        heatmaps: folder for a picture of each candidate, named by rank, and an index of them.
        open_tools: called once the request has been checked.

    Raises:
        ValueError: model or scorer cannot be opened, or the model can draw nothing in the brief.
        OSError: the folder cannot be written.
    """
    if own := built_in(request.model):
        own.check_brief(request.brief)  # fail before the model loads; called again for its warnings
    if heatmaps is not None:
        check_folder(heatmaps, "heatmaps")
    return probe_with(open_tools(request), request, report, heatmaps)


def probe_with(
    tools: Tools, request: ProbeRequest, report: Report, heatmaps: Path | None = None
) -> ProbeReply:
    """Like `answer`, with tools that are already open; one batch per prompt, latents discarded."""
    began = time.monotonic()
    asked = dict.fromkeys((request.brief, *request.prompts))
    warnings = [*tools.check_brief(request.brief), *filter(None, map(foreign_syntax, asked))]
    with tempfile.TemporaryDirectory(prefix="promptprobe-") as scratch:
        found = _probed(tools, request, report, Path(scratch), heatmaps is not None)
        ranked = sorted(found, key=_promise, reverse=True)
        first = ranked[0][1].prediction
        reply = ProbeReply(
            brief=request.brief,
            model=tools.model_name,
            generation=tools.settings_used,
            basis=first.basis if first else None,
            candidates=tuple(ProbeRow.of(*pair) for pair in ranked),
            steps=tools.probe_steps,
            of=tools.settings_used.steps,
            spent=Spend(
                nfe=sum(probed.nfe for _, probed in ranked), seconds=time.monotonic() - began
            ),
            warnings=(*warnings, *(notice for _, one in ranked for notice in one.notices)),
        )
        return _with_heatmaps(reply, heatmaps) if heatmaps is not None else reply


def _probed(
    tools: Tools, request: ProbeRequest, report: Report, scratch: Path, draw: bool
) -> list[tuple[Candidate, Probed]]:
    prompts = tuple(dict.fromkeys(request.prompts))
    seeds = tuple(dict.fromkeys(request.seeds))
    found: list[tuple[Candidate, Probed]] = []
    for number, prompt in enumerate(prompts, 1):
        batch = [Candidate(prompt=prompt, seed=seed) for seed in seeds]
        with tempfile.TemporaryDirectory(dir=scratch) as latents:
            probed = tools.probe(
                request.brief, batch, Path(latents), scratch / "heatmaps" if draw else None
            )
        found += zip(batch, probed, strict=True)
        report(len(found), len(prompts) * len(seeds), f"probed prompt {number}")
    return found


def _promise(pair: tuple[Candidate, Probed]) -> float:
    """Sort key; a candidate without a prediction comes last."""
    prediction = pair[1].prediction
    return prediction.score if prediction else float("-inf")


def _with_heatmaps(reply: ProbeReply, folder: Path) -> ProbeReply:
    """Move the pictures to their folder, named by rank, and draw the index."""
    from promptprobe.tools.pictures.heatmaps import save_index

    digits = len(str(len(reply.candidates)))
    rows, pictures = [], []
    for rank, row in enumerate(reply.candidates, 1):
        assert row.heatmap is not None, "the tools drew a heat map for each candidate"
        pictures.append(folder / f"{rank:0{digits}}-seed-{row.seed}.png")
        shutil.move(row.heatmap, pictures[-1])
        rows.append(row.model_copy(update={"heatmap": pictures[-1]}))
    note = (
        f"{len(rows)} candidates after {reply.steps} of {reply.of} steps on "
        f"{Path(reply.model).name}, the most promising first"
    )
    index = save_index(folder / INDEX, reply.brief, note, pictures)
    return reply.model_copy(update={"candidates": tuple(rows), "heatmaps": index})
