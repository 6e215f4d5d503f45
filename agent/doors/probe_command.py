"""`promptprobe probe`: how promising prompts and seeds are, and where each word looks.

The command's side of `probe_prompts`, which agents call over MCP. Exit codes: 0 done, 1 failed,
2 bad usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from promptprobe.agent.doors.options import (
    DONE,
    add_model,
    add_pictures,
    command_parser,
    ended,
    forgive_terminals,
    generation_of,
    print_json,
    whole,
)
from promptprobe.agent.doors.schemas import MAX_SEEDS, ProbeRequest, checked

SEEDS = 8

EXAMPLES = """\
examples:
  promptprobe probe "a red cat left of a blue car"
  promptprobe probe "a red cat left of a blue car" --seeds 16 --json
  promptprobe probe "two red keys" --prompt "two keys, red" --prompt "a pair of red keys"
  promptprobe probe "a fox in snow" --model FOLDER --heatmaps maps     then look at maps/index.png

exit codes: 0 done, 1 failed, 2 bad usage, 130 interrupted
"""


def build_parser() -> argparse.ArgumentParser:
    """The options of `promptprobe probe`."""
    parser = command_parser(
        "probe",
        "Predict from the first denoising steps how well seeds and wordings would draw "
        "BRIEF, and how settled each word is. No picture is rendered.",
        EXAMPLES,
    )
    add = parser.add_argument
    add("brief", metavar="BRIEF", help="what the picture should show")
    add("--json", action="store_true", help="print one JSON object on stdout")
    add(
        "--heatmaps",
        type=Path,
        metavar="DIR",
        help="draw each word's attention over the preview: a PNG a candidate, and index.png",
    )
    group = parser.add_argument_group("what is probed")
    group.add_argument(
        "--prompt",
        action="append",
        default=[],
        metavar="P",
        help="a further wording, judged against the same brief; may be repeated",
    )
    group.add_argument(
        "--seeds",
        type=whole(MAX_SEEDS),
        default=SEEDS,
        metavar="N",
        help=f"seeds of each prompt ({SEEDS})",
    )
    add_model(group)
    add_pictures(parser)
    return parser


def request_of(options: argparse.Namespace) -> ProbeRequest:
    """The options as the request that all doors share.

    Raises:
        ValueError: an option is out of bounds.
    """
    return checked(
        ProbeRequest,
        {
            "brief": options.brief,
            "prompts": [options.brief, *options.prompt],
            "seeds": [options.seed + number for number in range(options.seeds)],
            "model": options.model,
            "scorer": options.scorer,
            "probe": options.probe,
            "generation": generation_of(options),
        },
    )


def main(argv: list[str]) -> int:
    """Run the command; returns its exit code."""
    forgive_terminals()
    options = build_parser().parse_args(argv)
    return ended("probe", lambda: _probe(options), lambda: "Nothing is kept")


def _probe(options: argparse.Namespace) -> int:
    request = request_of(options)  # what is wrong there is said before anything loads
    from rich.console import Console

    from promptprobe.agent.doors import display
    from promptprobe.agent.probe_prompts import probe_prompts

    with Console(stderr=True).status("opening the model") as status:

        def report(done: float, total: float, message: str) -> None:
            status.update(f"probed {done:.0f} of {total:.0f}")

        reply = probe_prompts(request, report, options.heatmaps)
    if options.json:
        print_json(reply.model_dump(mode="json"))
    else:
        display.show_probe(reply)
    return DONE
