"""Images that a judge could not score are left out of an eval and counted; many of them end it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from promptprobe.evals.bench import Bench
from promptprobe.evals.briefs import held_out
from promptprobe.evals.fidelity import fidelity
from promptprobe.evals.fidelity.experiment import run_experiment
from tests.evals.fidelity.conftest import brightness


def test_a_prompt_with_an_unscored_image_is_left_out_and_counted(bench: Bench) -> None:
    whole = run_experiment(bench, held_out(bench, 6), 4)
    # Images are judged in this order: previews after 1 and 2 steps of the test table, then its
    # finished images, four of each of six prompts. The second prompt's third breaks.
    mended = replace(bench, score=brightness(lambda at: at == 24 + 24 + 4 + 2))
    drawn = run_experiment(mended, held_out(mended, 6), 4)
    assert [brief.text for brief in drawn.test.briefs] == [
        brief.text for at, brief in enumerate(whole.test.briefs) if at != 1
    ]
    np.testing.assert_array_equal(drawn.test.scores, np.delete(whole.test.scores, 1, 0))
    for k, scores in drawn.coarse.items():
        np.testing.assert_array_equal(scores, np.delete(whole.coarse[k], 1, 0))
    assert len(drawn.known.briefs) == len(whole.known.briefs)
    assert fidelity.notes(drawn)[0] == (
        "1 of 36 candidates were not scored (the judge ran out of memory); "
        "4 of 4 seeds of 8 of 9 prompts are left"
    )


def test_a_seed_goes_where_that_keeps_more_than_prompts_do(bench: Bench) -> None:
    finished = range(24 + 24, 24 + 24 + 24)
    often = replace(bench, score=brightness(lambda at: at in finished and at % 8 == 5))
    drawn = run_experiment(often, held_out(often, 6), 4)
    assert drawn.test.scores.shape == (6, 3)
    assert drawn.known.scores.shape == (3, 3)
    assert "3 of 4 seeds of 9 of 9 prompts are left" in drawn.notes[0]


def test_too_many_unscored_images_end_an_eval_with_the_reason(bench: Bench) -> None:
    broken = replace(bench, score=brightness(lambda at: at % 5 == 0))
    with pytest.raises(
        ValueError, match=r"were not scored \(the judge ran out of memory\): at most"
    ):
        run_experiment(broken, held_out(broken, 4), 2)
