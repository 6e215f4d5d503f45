"""Trust under attack: a shuffled probe moves predictions about, and runs that lose trust count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from promptprobe.agent.doors.schemas import OptimizeRequest
from promptprobe.evals.gain.trust import Shuffled, evaluate, figures, run
from promptprobe.tools.protocol import Probed
from promptprobe.tools.records import Candidate
from tests.agent.scripted import ScriptedTools


def test_a_shuffled_probe_says_of_each_what_it_thinks_of_another(tmp_path: Path) -> None:
    candidates = [Candidate(prompt="a red cat", seed=seed) for seed in range(8)]
    tools = ScriptedTools(tmp_path / "log")
    own = tools.probe("a red cat", candidates, tmp_path)
    moved = Shuffled(tools).probe("a red cat", candidates, tmp_path)
    before, after = (
        [look.prediction.score for look in looks if look.prediction] for looks in (own, moved)
    )
    assert sorted(after) == sorted(before)
    assert not [one for one, other in zip(before, after, strict=True) if one == other]
    assert [look.latents for look in moved] == [look.latents for look in own]


def test_runs_that_lose_trust_are_counted(tmp_path: Path) -> None:
    class Sure(ScriptedTools):
        """A probe whose intervals are far above every score."""

        def probe(self, *given: Any, **named: Any) -> list[Probed]:
            wrong = {"low": 2.0, "high": 3.0, "basis": "probe"}
            return [
                look.model_copy(update={"prediction": look.prediction.model_copy(update=wrong)})
                for look in super().probe(*given, **named)
                if look.prediction
            ]

    asked = [
        OptimizeRequest(brief="a cat", model="scripted", budget="medium", seed=s) for s in (1, 2)
    ]
    sound = figures(list(run(asked, lambda _: ScriptedTools(tmp_path / "log"), "sound")))
    wrong = figures(list(run(asked, lambda _: Sure(tmp_path / "log"), "sure")))
    assert sound["not_trusted"]["value"] == 0
    assert wrong["not_trusted"]["value"] == 1
    assert wrong["intervals_hold"] == 0
    assert "lie outside of their 90% intervals" in wrong["reasons"][0]


def test_trust_is_measured_on_a_model_with_held_out_scenes() -> None:
    with pytest.raises(
        ValueError, match=r"expected a built-in model \(sprites or sprites-flow\), got 'mine'"
    ):
        evaluate("mine", 2, "light")
