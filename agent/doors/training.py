"""`train_probe`: a probe for a model, from Python. What `promptprobe train` does, typed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from promptprobe.agent.given import DEFAULT_GENERATION
from promptprobe.tools.records import Generation


def train_probe(
    prompts: str | Path | Sequence[str] = (),
    *,
    model: str | Path,
    scorer: str | Sequence[str],
    out: str | Path,
    generation: Generation = DEFAULT_GENERATION,
    seeds: int = 8,
    windows: Sequence[int] = (),
    epochs: int = 30,
    start: str | None = None,
    also: Sequence[str] = (),
    from_runs: Sequence[str | Path] = (),
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Draw prompts x seeds, score the pictures, and train a probe that predicts the scores.

    Killed, it goes on where it was by the same call. Needs `promptprobe[train]`.

    Args:
        prompts: a file of them, or the prompts themselves; none: learn from past runs alone.
        model: a built-in one's name, a diffusers folder, or a hub id.
        scorer: who scores; of several each is predicted, and the first one judges previews too.
            "ocr + pickscore" is their mean.
        out: folder of the dataset, and of the probe in its `probe`.
        generation: how pictures are made.
        seeds: of each prompt.
        windows: numbers of steps to learn from; none: 1, 2, 3, 5, 8 and 10 of 25, or their shares.
        epochs: of training, at most.
        start: a probe whose weights training begins with.
        also: settings to validate for too, such as "steps=15".
        from_runs: folders of runs whose finished pictures are not drawn again.
        say: told what it costs before it starts, and where it stands.

    Returns:
        The probe's card, as JSON values.

    Raises:
        ValueError: something given cannot be used, or there is too little to learn from.
        OSError: a file cannot be read, or `out` cannot be written.
    """
    from promptprobe.agent.export.past_runs import read_runs
    from promptprobe.tools.collect.learn import ProbeTraining, learn
    from promptprobe.tools.collect.prompts import Wanted, read_prompts

    if isinstance(prompts, str | Path):
        wanted, notice = read_prompts(Path(prompts))
        if notice:
            say(notice)
    else:
        wanted = [Wanted(prompt=prompt) for prompt in prompts]
    training = ProbeTraining(
        model=str(model),
        wanted=wanted,
        scorers=[scorer] if isinstance(scorer, str) else list(scorer),
        generation=generation,
        seeds=seeds,
        windows=tuple(windows),
        epochs=epochs,
        past=read_runs([Path(folder) for folder in from_runs], say),
        start=start,
        also=also,
    )
    return learn(training, Path(out), say)
