"""What a run says while it works: counted in plain words, and never silent for long in a pipe."""

from __future__ import annotations

import threading
from io import StringIO

import pytest
from rich.console import Console

from promptprobe.agent.doors.cli.progress import live, spoken
from promptprobe.agent.doors.display import counted, describe
from promptprobe.agent.events import CandidatesProbed, CandidatesSelected, Warned
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


class Pipe(StringIO):
    """Says when something was written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = threading.Event()

    def write(self, text: str) -> int:
        done = super().write(text)
        self.written.set()
        return done


def test_in_a_pipe_a_long_wait_is_broken_by_a_line_that_says_what_was_last() -> None:
    pipe = Pipe()
    with spoken(Console(file=pipe), "opening the model", silence=0.01) as tell:
        tell("looked at 3 of 8")
        while "looked" not in pipe.getvalue():
            assert pipe.written.wait(10)
            pipe.written.clear()
    assert pipe.getvalue().splitlines()[-1] == "0 s: looked at 3 of 8"


def test_in_a_pipe_a_short_run_says_nothing_but_its_warnings() -> None:
    pipe = Pipe()
    with live(Console(file=pipe)) as show:
        show(CandidatesProbed(spent=Spend(), round=1, trials=(), done=3, of=8))
        show(Warned(spent=Spend(), message="a word is not read"))
    assert pipe.getvalue() == "note: a word is not read\n"
