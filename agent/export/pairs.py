"""Which pictures of a run to compare: chosen by the probe, then drawn, then judged.

Of each prompt, the seeds with the highest and with the lowest predicted score are drawn, where they
are not yet. The probe says only which two to compare; the score says which is better.

The score is against the run's brief, although a trainer reads the prompt that was drawn: a rewrite
was let in because it means the brief, that score is the one predicted, what the run has judged is
used again, and a judge may cut a long rewrite.

What is drawn here is kept in the run's folder, in `pairs/`, with a ledger of its own: the run stays
as it ended, and a call that is killed or repeated draws nothing twice but the batch in flight.
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
"""Images a call; what a kill repeats at most."""


class FinishedRun:
    """A run's prompts whose seeds the probe tells apart, and what is drawn of them so far."""

    def __init__(self, folder: Path) -> None:
        """Read a run's folder. Raises ValueError where it is damaged."""
        self.settings = run_folder.read(folder)
        self.own, self.added = Ledger(folder), Ledger(folder / FOLDER)
        self.choices = told_apart(self.own.trials())

    def rendered(self, candidate: Candidate) -> Rendered | None:
        return self.own.rendered(candidate) or self.added.rendered(candidate)

    def image(self, candidate: Candidate) -> Path | None:
        """The finished image, if there is one that may be judged."""
        rendered = self.rendered(candidate)
        return rendered.scorable if rendered else None

    def score(self, candidate: Candidate) -> float | None:
        """What the run's scorer says of that image."""
        if self.image(candidate) is None:
            return None
        lines = filter(None, (ledger.scored(candidate) for ledger in (self.own, self.added)))
        return next((line.score.value for line in lines if line.score.value is not None), None)

    def missing(self) -> list[Trial]:
        """What is still to be drawn."""
        return [trial for trial in self._extremes() if not self.rendered(trial.candidate)]

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
        """Score what has no score; where the scorer fails nothing is kept: it is asked again."""
        images = {
            trial.candidate: image
            for trial in self._extremes()
            if self.score(trial.candidate) is None and (image := self.image(trial.candidate))
        }
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
        """What a prompt's pair took, whenever it was paid: all its probes, and two renders."""
        probes = (look for trial in ranked for look in self.own.looks(trial.candidate))
        renders = (self.rendered(trial.candidate) for trial in (ranked[0], ranked[-1]))
        return sum(part.nfe for part in (*probes, *renders) if part)

    def _extremes(self) -> list[Trial]:
        return [trial for ranked in self.choices for trial in (ranked[0], ranked[-1])]


def told_apart(trials: Sequence[Trial]) -> list[list[Trial]]:
    """Per prompt its trials, the best predicted first; without prompts of one seed or one score."""
    early = by_prompt([trial for trial in trials if trial.prediction]).values()
    groups = [sorted(group, key=predicted, reverse=True) for group in early]
    return [ranked for ranked in groups if predicted(ranked[0]) > predicted(ranked[-1])]
