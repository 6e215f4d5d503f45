"""What a run says while it works: counted in plain words, and never silent for long in a pipe."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from promptprobe.agent.doors.display import counted, describe, live
from promptprobe.agent.events import CandidatesProbed, CandidatesSelected
from promptprobe.tools.records import Candidate, Spend


@pytest.mark.parametrize(
    ("number", "said"),
    [(0, "0 prompts"), (1, "1 prompt"), (2, "2 prompts"), (1500, "1,500 prompts")],
)
def test_things_are_counted_as_people_do(number: int, said: str) -> None:
    assert counted(number, "prompt") == said


def test_one_candidate_goes_on_and_two_go_on() -> None:
    some = [Candidate(prompt="a cat", seed=seed) for seed in range(2)]
    one, two = (
        CandidatesSelected(spent=Spend(), round=1, candidates=tuple(some[:n])) for n in (1, 2)
    )
    assert (describe(one), describe(two)) == ("1 goes on", "2 go on")


def test_in_a_pipe_a_long_wait_is_broken_by_a_line_every_ten_seconds() -> None:
    pipe = StringIO()
    with live(Console(file=pipe)) as show:
        for seconds in range(0, 31, 2):
            spent = Spend(seconds=seconds)
            show(CandidatesProbed(spent=spent, round=1, trials=(), done=seconds, of=31))
    assert pipe.getvalue().split("\n") == [f"looked at {n} of 31" for n in (10, 20, 30)] + [""]
