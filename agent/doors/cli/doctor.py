"""`promptprobe doctor`: what is installed on this machine, and what would make a run fail."""

from __future__ import annotations

from typing import Annotated

import typer

from promptprobe.agent.doors import options as o
from promptprobe.agent.doors.display import plain

app = typer.Typer(rich_markup_mode="rich")


@app.command(epilog=o.examples("doctor --model FOLDER --scorer clip:FOLDER"))
def doctor(
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
    return o.ended("doctor", lambda: _doctor(model, scorer, probe, llm, json), lambda: "")


def _doctor(
    model: str | None, scorer: list[str] | None, probe: str | None, llm: str | None, json: bool
) -> int:
    from promptprobe.tools.doctor import Finding, look_at_machine, look_at_model
    from promptprobe.tools.endpoint.endpoint import LLM, Endpoint

    if model is None and (scorer or probe):
        raise ValueError("--scorer and --probe are checked with a model: give --model too")
    findings: list[Finding] = []

    def take(finding: Finding) -> None:
        findings.append(finding)
        if not json:
            text = f"wrong: {finding.problem}" if finding.problem else finding.found
            o.print_line(f"{finding.name:<16} {plain(text)}")

    for finding in look_at_machine():
        take(finding)
    if llm is not None:
        try:
            Endpoint(LLM(model=llm)).check()
            take(Finding(name="llm", found="key and address can be used; no request was sent"))
        except ValueError as error:
            take(Finding(name="llm", problem=str(error)))
    for finding in look_at_model(model, scorer, probe) if model else ():
        take(finding)
    if json:
        o.print_json({"findings": [finding.model_dump() for finding in findings]})
    return o.FAILED if any(finding.problem for finding in findings) else o.DONE
