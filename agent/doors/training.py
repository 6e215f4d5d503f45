"""`train_probe`: train a probe from Python, as `promptprobe train` does."""

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

    If it is killed, the same call resumes it. Needs `promptprobe[train]`.

    Args:
        prompts: the prompts, or a file of them; none: learn from past runs alone.
        model: name of a built-in model, a diffusers folder, or a hub id.
        scorer: what scores the pictures. If there are several, the probe predicts each, and the
            first also judges previews. "ocr + pickscore" is the mean of two.
        out: folder of the dataset; the probe goes to its subfolder `probe`.
        generation: how pictures are made.
        seeds: seeds per prompt.
        windows: numbers of steps to learn from; none: 1, 2, 3, 5, 8 and 10 of 25, or those shares
            of another number of steps.
        epochs: maximum number of training epochs.
        start: a probe whose weights initialize training.
        also: further settings to validate for, such as "steps=15".
        from_runs: folders of runs whose finished pictures are used instead of drawn again.
        say: called with the expected cost before work starts, and with progress.

    Returns:
        The probe's card, as JSON values.

    Raises:
        ValueError: an argument cannot be used, or there is too little to learn from.
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
