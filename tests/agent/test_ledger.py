"""The ledger: on the disk before it is used, tolerant of a cut, strict about damage."""

from __future__ import annotations

from pathlib import Path

import pytest

from promptprobe.agent.ledger import (
    FinishedLine,
    Ledger,
    ProbedLine,
    RenderedLine,
    ReplyLine,
    ScoredLine,
    WarningLine,
)
from promptprobe.agent.search.trust import Trust
from promptprobe.tools.protocol import Probed, Rendered
from promptprobe.tools.records import Candidate, Prediction, Score

CAT = Candidate(prompt="a cat\u2028 🐈 with a\nline break", seed=1)


def lines(folder: Path) -> list[ReplyLine | ProbedLine | RenderedLine | ScoredLine]:
    prediction = Prediction(score=0.5, basis="preview")
    probed = Probed(step=5, prediction=prediction, latents=folder / "latents" / "x", nfe=10)
    image = folder / "images" / "x.png"
    image.parent.mkdir(exist_ok=True)
    image.touch()
    return [
        ReplyLine(at=1, question="q", text="answer"),
        ProbedLine(at=2, round=0, candidate=CAT, probed=probed),
        RenderedLine(at=3, candidate=CAT, rendered=Rendered(image=image, nfe=40)),
        ScoredLine(at=4, candidate=CAT, score=Score(value=0.7)),
    ]


def test_a_new_ledger_reads_what_an_old_one_wrote(tmp_path: Path) -> None:
    old = Ledger(tmp_path)
    old.write(lines(tmp_path))
    old.write(
        [
            WarningLine(message="beware"),
            FinishedLine(at=5, stop_reason="budget spent", trust=Trust()),
        ]
    )
    new = Ledger(tmp_path)
    assert new.lines == old.lines
    assert new.trial(CAT) == old.trial(CAT)
    assert new.spent.model_dump() == {
        "nfe": 50, "seconds": 5.0, "llm_calls": 1, "tokens": 0, "usd": 0
    }  # fmt: skip
    assert new.reply("q") == lines(tmp_path)[0]
    assert new.warnings == ("beware",)
    assert new.finished
    assert new.finished.stop_reason == "budget spent"


def test_paths_are_written_relative_to_the_run(tmp_path: Path) -> None:
    Ledger(tmp_path).write(lines(tmp_path))
    assert str(tmp_path) not in (tmp_path / "trials.jsonl").read_text()


def test_a_last_line_cut_off_anywhere_is_dropped_and_the_next_is_whole(tmp_path: Path) -> None:
    Ledger(tmp_path).write(lines(tmp_path))
    whole = (tmp_path / "trials.jsonl").read_bytes()
    start = whole.rstrip(b"\n").rfind(b"\n") + 1
    for cut in range(start, len(whole)):
        (tmp_path / "trials.jsonl").write_bytes(whole[:cut])
        ledger = Ledger(tmp_path)
        assert len(ledger.lines) == 3
        ledger.write(lines(tmp_path)[3:])
        assert (tmp_path / "trials.jsonl").read_bytes() == whole


def test_a_damaged_line_is_an_error_that_names_it(tmp_path: Path) -> None:
    Ledger(tmp_path).write(lines(tmp_path))
    path = tmp_path / "trials.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"rendered"', b'"\xff"', 1))
    with pytest.raises(ValueError, match=r"line 3 of .*trials.jsonl is damaged"):
        Ledger(tmp_path)


def test_a_lost_image_counts_as_not_rendered(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.write(lines(tmp_path))
    assert ledger.rendered(CAT) is not None
    (tmp_path / "images" / "x.png").unlink()
    assert ledger.rendered(CAT) is None


@pytest.mark.parametrize("number", ["1e999", "NaN", "-Infinity"])
def test_a_score_that_is_not_finite_is_a_damaged_line(tmp_path: Path, number: str) -> None:
    Ledger(tmp_path).write(lines(tmp_path))
    path = tmp_path / "trials.jsonl"
    path.write_text(path.read_text().replace('"value":0.7', f'"value":{number}'))
    assert number in path.read_text()
    with pytest.raises(ValueError, match=r"line \d .*is damaged"):
        Ledger(tmp_path)
