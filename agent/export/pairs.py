"""Preference pairs from a run: chosen by the probe, then drawn, then judged.

For each prompt, the seeds with the highest and the lowest predicted score are drawn unless they
already were. The probe only chooses which two to compare; the score says which is better.

The score is against the run's brief, although a trainer reads the prompt that was drawn: a rewrite
was accepted because it means the same as the brief, the prediction is of this score, the run's own
scores can be reused, and a judge may truncate a long rewrite.

New pictures go to `pairs/` in the run's folder, with their own ledger: the run itself does not
change, and a call that is killed or repeated draws at most the batch in flight twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from promptprobe.agent import run_folder
from promptprobe.agent.ledger import Ledger, RenderedLine, ScoredLine
from promptprobe.agent.search.policy import by_prompt, predicted
from promptprobe.tools.protocol import Rendered, Tools
from promptprobe.tools.records import Candidate, Score, Trial

FOLDER = "pairs"
AT_ONCE = 16
"""Images per call, and so the most that a kill repeats."""


class FinishedRun:
    """A run's prompts whose seeds the probe tells apart, and the pictures drawn for them so far."""

    def __init__(self, folder: Path) -> None:
        """Read a run's folder. Raises ValueError if it is damaged."""
        self.folder, self.settings = folder, run_folder.read(folder)
        self.own, self.added = Ledger(folder), Ledger(folder / FOLDER)
        self.choices = told_apart(self.own.trials())

    def rendered(self, candidate: Candidate) -> Rendered | None:
        return self.own.rendered(candidate) or self.added.rendered(candidate)

    def image(self, candidate: Candidate) -> Path | None:
        """The finished image, if there is one that may be judged."""
        rendered = self.rendered(candidate)
        return rendered.scorable if rendered else None

    def score(self, candidate: Candidate) -> float | None:
        """The run's score of that image, if any."""
        if self.image(candidate) is None:
            return None
        lines = filter(None, (ledger.scored(candidate) for ledger in (self.own, self.added)))
        return next((line.score.value for line in lines if line.score.value is not None), None)

    def missing(self) -> list[Trial]:
        """The trials that still have to be drawn."""
        return [trial for trial in self._extremes() if not self.rendered(trial.candidate)]

    def unscored(self) -> dict[Candidate, Path]:
        """The images that still have to be judged."""
        return {
            trial.candidate: image
            for trial in self._extremes()
            if self.score(trial.candidate) is None and (image := self.image(trial.candidate))
        }

    def render(self, tools: Tools) -> Iterator[list[Rendered]]:
        """Draw what is missing, batch by batch."""
        folder = self.added.run_dir
        folder.mkdir(exist_ok=True)
        missing = iter(self.missing())
        while batch := list(islice(missing, AT_ONCE)):
            candidates = [trial.candidate for trial in batch]
            found = tools.render(candidates, [trial.latents for trial in batch], folder)
            drawn = zip(candidates, found, strict=True)
            self.added.write([RenderedLine(candidate=one, rendered=r) for one, r in drawn])
            yield found

    def judge(self, tools: Tools) -> list[Score]:
        """Score images without a score; failures are not recorded, so they are tried again."""
        images = self.unscored()
        scores = tools.score(self.settings.brief, list(images.values()))
        self.added.write(
            [
                ScoredLine(candidate=candidate, score=score)
                for candidate, score in zip(images, scores, strict=True)
                if score.value is not None
            ]
        )
        return scores

    def nfe(self, ranked: Sequence[Trial]) -> int:
        """NFE of a prompt's pair, whenever they were spent: all its probes and two renders."""
        probes = (look for trial in ranked for look in self.own.looks(trial.candidate))
        renders = (self.rendered(trial.candidate) for trial in (ranked[0], ranked[-1]))
        return sum(part.nfe for part in (*probes, *renders) if part)

    def nfe_per_render(self) -> int:
        """NFE of one image, of a run that has some; where latents were lost, looks were in vain."""
        drawn = [(trial.candidate, self.rendered(trial.candidate)) for trial in self.own.trials()]
        return min(
            found.nfe + sum(look.nfe for look in self.own.looks(candidate))
            for candidate, found in drawn
            if found
        )

    def _extremes(self) -> list[Trial]:
        return [trial for ranked in self.choices for trial in (ranked[0], ranked[-1])]


def told_apart(trials: Sequence[Trial]) -> list[list[Trial]]:
    """Each prompt's trials, best predicted first; only prompts whose predictions differ."""
    early = by_prompt([trial for trial in trials if trial.prediction]).values()
    groups = [sorted(group, key=predicted, reverse=True) for group in early]
    return [ranked for ranked in groups if predicted(ranked[0]) > predicted(ranked[-1])]
