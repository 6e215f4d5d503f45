"""`promptprobe train | pairs`: train a probe, and make training files from runs.

If either is killed, the same command resumes it. Exit codes: 0 done, 1 failed, 2 bad usage,
130 interrupted.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Option

from promptprobe.agent.doors import options as o
from promptprobe.agent.doors.schemas import checked
from promptprobe.tools.records import Generation

TRAIN_EXAMPLES = o.examples(
    "train --model M --prompts prompts.txt --scorer clip:FOLDER --out T",
    "train --model M --from-runs runs --scorer clip:FOLDER --out T",
    "train --model M --prompts P --scorer S --out T --also steps=15",
    end="python -m promptprobe.tools.sprites.prompts > sprites.jsonl writes the prompts of "
    f"Sprites.\n\n{o.CODES}; the same command resumes",
)
PAIRS_EXAMPLES = o.examples(
    "optimize --briefs briefs.txt --out results --rewrite off --budget medium",
    "pairs --from results --out pairs/train.parquet",
    "pairs --from results --out grpo/train.txt",
    end="A pair is a prompt's highest and lowest predicted seed, drawn if the run has not, "
    "and labelled by the run's scorer. Diffusion-DPO trainers read the file as they read "
    "yuvalkirstain/pickapic_v2. The prompts for GRPO are those whose seeds are predicted to "
    "differ, the most different first, as Flow-GRPO reads them: train.txt, or "
    f"train_metadata.jsonl; nothing is drawn for them.\n\n{o.CODES}; the same command resumes",
)
PAIRS, PROMPTS = ".parquet", (".jsonl", ".txt")
NO_VERDICT = "none: no held-out prompt has seeds whose scores differ, or no preview was scored"
MOST = 1000
"""Limit for seeds per prompt, steps and epochs."""
app = typer.Typer()


# -- train -------------------------------------------------------------------------------------


@app.command(epilog=TRAIN_EXAMPLES)
@o.with_pictures
def train(
    context: typer.Context,
    model: Annotated[str, Option(help=o.ANY_MODEL)],
    scorer: Annotated[
        list[str],
        Option(
            help="a judge from `promptprobe judges`, or the mean of several in one name, such as "
            '"ocr + pickscore"; may be repeated: the probe predicts each and stands for the first'
        ),
    ],
    out: Annotated[Path, Option(help="folder of the shards; the probe goes to its probe/")],
    prompts: Annotated[
        Path | None,
        Option(
            help='text, CSV, TSV, JSON; .jsonl with {"prompt": ..., "scene": ..., "split": ...}'
        ),
    ] = None,
    from_runs: Annotated[
        list[Path] | None,
        Option(
            help="a run, or a folder of runs, with the same model and settings: their finished "
            "pictures are not drawn again; may be repeated, with or without --prompts"
        ),
    ] = None,
    seeds: Annotated[int, Option(min=1, max=MOST, help="seeds per prompt")] = 8,
    probed: Annotated[
        str, Option(metavar="K,...", help="numbers of steps to learn from (1,2,3,5,8,10 of 25)")
    ] = "",
    epochs: Annotated[int, Option(min=1, max=MOST, help="maximum number of epochs")] = 30,
    start: Annotated[
        str | None,
        Option(
            help="start from the weights of this probe, made for a similar model or this one: a "
            "folder, a hub id, or a built-in model's name (default: random weights)"
        ),
    ] = None,
    also: Annotated[
        list[str] | None,
        Option(
            metavar="SETTING=VALUE",
            help="also validate for this setting: steps, guidance, height or width (steps=15); may "
            "be repeated. The probe is then used within its validated range",
        ),
    ] = None,
    judge: Annotated[
        list[str] | None,
        Option(help="a judge that also grades the images in the shards, but is not learned from"),
    ] = None,
    keep_images: Annotated[
        bool, Option("--keep-images", help="keep the images as JPEG in OUT/shards/images")
    ] = False,
    json: o.Json = False,
) -> int:
    """Train a probe for a model, from a scorer and prompts or past runs.

    Draws prompts x seeds, scores the pictures, and trains a network that
    predicts the score from the first denoising steps. Needs promptprobe\\[train].
    """
    if not (prompts or from_runs):
        context.fail("expected --prompts FILE, --from-runs DIR, or both")
    return o.ended("train", lambda: _train(context.params), lambda: f"{out} keeps what is done")


def _train(params: Mapping[str, Any]) -> int:
    from promptprobe.agent.export.past_runs import read_runs
    from promptprobe.tools.collect.learn import ProbeTraining, learn
    from promptprobe.tools.collect.prompts import read_prompts

    wanted, notice = read_prompts(params["prompts"]) if params["prompts"] else ([], "")
    if notice:
        o.say(notice)
    training = ProbeTraining(
        model=params["model"],
        wanted=wanted,
        scorers=params["scorer"],
        generation=checked(Generation, o.generation_of(params)),
        seeds=params["seeds"],
        windows=_counts(params["probed"]),
        epochs=params["epochs"],
        past=read_runs(params["from_runs"] or (), o.say),
        start=params["start"],
        also=params["also"] or (),
        judges=params["judge"] or (),
        keep_images=params["keep_images"],
    )
    card = learn(training, params["out"], o.say)
    if params["json"]:
        o.print_json(card)
        return o.DONE
    for window in card["windows"]:
        for target, figures in window["figures"].items():
            o.print_line(f"after {window['k']} steps: {target}, {_ranks(window, target, figures)}")
    for check in card["checks"]:
        o.print_line(_checked(check))
    o.print_line(f"verdict: {card['verdict'] or NO_VERDICT}")
    o.print_line(f"probe in {params['out'] / 'probe'}")
    return o.DONE


def _ranks(window: Mapping[str, Any], target: str, figures: Mapping[str, float]) -> str:
    """How well the probe and the preview rank the seeds of a prompt."""
    rank = figures.get("within_pairwise", float("nan"))
    own = f"rank within a prompt {rank:.3f}"
    if not (found := window["comparisons"].get(target)):
        return own
    ends = "" if found["low"] is None else f" ({found['low']:+.3f} to {found['high']:+.3f})"
    return (
        f"{own}, the preview's {found['preview']:.3f}: {found['difference']:+.3f}{ends} on "
        f"{found['prompts']} prompts"
    )


def _counts(text: str) -> tuple[int, ...]:
    parts = text.split(",") if text else []
    if not all(part.isdecimal() and 1 <= int(part) <= MOST for part in parts):
        raise ValueError(
            f"--probed: expected whole numbers from 1 to {MOST}, separated by commas, got {text!r}"
        )
    return tuple(map(int, parts))


def _checked(check: Mapping[str, Any]) -> str:
    """The result of validating with another setting."""
    names = ("within_pairwise", "within_pairwise_home", "coverage")
    rank, home, share = ("-" if check[n] is None else f"{check[n]:.3f}" for n in names)
    verdict = "holds" if check["holds"] else "does not hold"
    return (
        f"with {check['setting']} {check['value']:g}: {verdict}, rank within a prompt {rank} "
        f"against {home}, intervals hold {share} of the scores"
    )


# -- pairs -------------------------------------------------------------------------------------


@app.command(epilog=PAIRS_EXAMPLES)
def pairs(
    context: typer.Context,
    source: Annotated[
        Path,
        Option("--from", help="a run, or a folder of runs: --out of `promptprobe optimize`"),
    ],
    out: Annotated[
        Path, Option(help="pairs as .parquet; or only prompts, for GRPO, as .jsonl or .txt")
    ],
    scorer: Annotated[
        list[str] | None,
        Option(
            metavar="NAME",
            help="the judge of runs that were judged by code or a service, as these were given it; "
            "may be repeated. The other runs name their own",
        ),
    ] = None,
    json: o.Json = False,
) -> int:
    """Make preference pairs for DPO from runs, and prompts for GRPO.

    The probe chooses which seeds to compare, so that only they are rendered.
    Needs promptprobe\\[train].
    """
    if out.suffix not in (PAIRS, *PROMPTS):
        context.fail(f"--out: expected {PAIRS}, {' or '.join(PROMPTS)}, got {str(out)!r}")
    if scorer and out.suffix != PAIRS:
        context.fail(f"--scorer goes with {PAIRS}: for prompts nothing is judged")

    def work() -> int:
        from promptprobe.agent.export.training_files import write_pairs, write_prompts
        from promptprobe.tools.scorers.table import JOINT

        if out.suffix == PAIRS:
            counts = write_pairs(source, out, o.say, JOINT.join(scorer or ()) or None)
        else:
            counts = write_prompts(source, out, o.say)
        if json:
            o.print_json(counts)
        else:
            summary = ", ".join(f"{name} {number}" for name, number in counts.items())
            o.print_line(f"{summary}; in {out}")
        return o.FAILED if counts["left_out"] else o.DONE

    return o.ended("pairs", work, lambda: "What was rendered is kept in the runs")
