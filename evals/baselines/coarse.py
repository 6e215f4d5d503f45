"""The same candidates on a coarse path of their own: a whole render in a few large steps.

There attention is captured at low noise too, but nothing can be continued. The labels are still
those of the pictures from full renders.
"""

from __future__ import annotations

from dataclasses import replace

from tqdm import trange

from promptprobe.evals.bench import Bench
from promptprobe.probe.trace import join, record_trace
from promptprobe.probe.training.shards import Examples, as_examples
from promptprobe.tools.collect.rollout import BATCH, prompt_by_prompt
from promptprobe.tools.predictions import seen
from promptprobe.tools.records import Score


def retraced(bench: Bench, examples: Examples, steps: int) -> Examples:
    """The examples with the last of `steps` coarse steps as their only window."""
    settings = replace(bench.settings, steps=steps)
    traces, looks = [], list[Score]()
    for at in trange(0, len(examples), BATCH, desc=f"traced on a path of {steps} steps"):
        chunk = examples.rows[at : at + BATCH]
        prompts, seeds = [row.prompt for row in chunk], [row.seed for row in chunk]
        trace, _ = record_trace(bench.family, prompts, seeds, settings, steps)
        traces.append(trace)
        looks += prompt_by_prompt(bench.score, prompts, bench.family.decode(trace.x0))
    rows = [
        row.model_copy(update={"previews": (seen(row.words, look),)})
        for row, look in zip(examples.rows, looks, strict=True)
    ]
    return as_examples({steps: join(traces)}, rows)
