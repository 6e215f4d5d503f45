"""The words that are blamed, against those that are missing."""

from __future__ import annotations

import pytest

from promptprobe.evals.fidelity.diagnosis import diagnosis, doubt, prior, verdicts
from promptprobe.tools.models.built_in import Brief
from promptprobe.tools.records import Score, Verdict
from promptprobe.tools.sprites.evidence import EVIDENCE, held_out
from promptprobe.tools.sprites.language import requirements_of


def judged(brief: Brief, missing: set[str]) -> Score:
    """Nothing is missing but these words."""
    return Score(
        value=1.0,
        words=tuple(
            Verdict(word=asking.word, ok=asking.word not in missing, chance=1.0)
            for asking in requirements_of(brief.text)
        ),
    )


def test_who_knows_the_missing_words_has_an_auc_of_one_and_a_prior_knows_kinds_only():
    briefs = held_out(20, "test", "plain")
    nouns = [[a.word for a in requirements_of(brief.text) if a.role == "noun"] for brief in briefs]
    scores = [[judged(b, {n[0]}), judged(b, set())] for b, n in zip(briefs, nouns, strict=True)]
    words = [("photo", *(v.word for v in score.words)) for row in scores for score in row]
    roles = EVIDENCE.roles
    truth = verdicts(briefs, scores, words, roles)
    flat = [score for row in scores for score in row]
    knows = [[1.0, *(0.9 if v.ok else 0.1 for v in score.words)] for score in flat]
    ways = [doubt("knows", truth, scores, words, knows), prior(briefs, scores, roles)(truth)]

    found = diagnosis(truth, ways)

    assert found["words"] == sum(len(score.words) for score in flat)
    assert found["missing"] == pytest.approx(20 / found["words"], abs=1e-4)
    assert found["knows"]["all"]["value"] == 1
    assert found["knows"]["noun"]["value"] == 1
    assert found["knows"]["colour"]["value"] is None  # no colour was missing
    assert 0.5 < found["prior"]["all"]["value"] < 1
    assert found["knows minus prior"]["low"] > 0
