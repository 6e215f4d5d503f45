"""`promptprobe doctor`: what is installed on this machine, and what would make a run fail."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from promptprobe.agent.doors import options as o
from promptprobe.agent.doors.display import LINE, plain
from promptprobe.agent.doors.schemas import checked
from promptprobe.tools.records import Generation

app = typer.Typer(rich_markup_mode="rich")


@app.command(epilog=o.examples("doctor --model FOLDER --scorer clip:FOLDER"))
@o.with_pictures
def doctor(
    context: typer.Context,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="also open and check this model")
    ] = None,
    scorer: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="also check this scorer; needs --model; may be repeated"),
    ] = None,
    probe: Annotated[
        str | None, typer.Option(metavar="NAME", help="also check this probe; needs --model")
    ] = None,
    llm: Annotated[
        str | None, typer.Option(metavar="NAME", help="also check this LLM's key and address")
    ] = None,
    json: o.Json = False,
) -> int:
    """Show what is found on this machine, and what is wrong with it.

    Exits with code 1 if anything is wrong.
    """
    return o.ended("doctor", lambda: _doctor(context.params), lambda: "")


def _doctor(params: Mapping[str, Any]) -> int:
    from promptprobe.tools.doctor import Finding, look_at_machine, look_at_model
    from promptprobe.tools.endpoint.endpoint import LLM, Endpoint

    model, scorer, probe, llm, json = (
        params[name] for name in ("model", "scorer", "probe", "llm", "json")
    )
    drawn = o.generation_of(params)
    generation = checked(Generation, drawn)
    if model is None and (scorer or probe or drawn):
        raise ValueError(
            "--scorer, --probe and options of pictures are checked with a model: give --model too"
        )
    findings: list[Finding] = []

    def take(finding: Finding) -> None:
        findings.append(finding)
        if not json:
            text = f"wrong: {finding.problem}" if finding.problem else finding.found
            o.print_line(f"{finding.name:<16} {plain(text, LINE)}")

    for finding in look_at_machine():
        take(finding)
    if llm is not None:
        try:
            Endpoint(LLM(model=llm)).check()
            take(Finding(name="llm", found="key and address can be used; no request was sent"))
        except ValueError as error:
            take(Finding(name="llm", problem=str(error)))
    for finding in look_at_model(model, scorer, probe, generation) if model else ():
        take(finding)
    if json:
        o.print_json({"findings": [finding.model_dump() for finding in findings]})
    return o.FAILED if any(finding.problem for finding in findings) else o.DONE
