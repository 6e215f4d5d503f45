"""A report of fidelity as text: what the predictor is worth, then every simpler baseline."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

FIGURE = ("value", "low", "high")


def lines(report: dict[str, Any]) -> Iterator[str]:
    """Markdown: a summary, and a table of baselines on the same candidates."""
    yield (
        f"{report['model']}: {report['n_prompts']} {report['split']}, {report['n_seeds']} seeds "
        f"each; step {report['step']} of {report['of']}; 95% intervals over prompts"
    )
    yield f"probe: {report['probe']}; scorer: {report['scorer']}; good: {report['positives']}"
    yield from (f"note: {note}" for note in report["notes"])
    yield ""
    yield from _baselines(report)
    yield ""
    yield from networks(report["retrained_minus"])
    for name, rung in report["rungs"].items():
        yield (
            f"- rungs chosen on validation, {name}: {rung['rule']} ({rung['share_of_nfe']:.0%} of "
            f"the NFE): recovers {percent(rung['recovered'])}, "
            f"{percent(rung['minus_naive_at_equal_nfe'])} more than naive best-of-n there"
            + "".join(
                f", {percent(more)} more than the rule of the {other}"
                for other, more in rung["minus_the_rule_of"].items()
            )
        )
    yield from _verdict(report["verdict"])
    yield from _further(report["further_targets"])
    if second := report["second_judge"]:
        yield (
            f"- the same guesses against {report['judge']}, which did not select: rank within a "
            f"prompt {figure(second['within']['pairwise'])}"
        )
    yield from _uncertainty(report)
    yield from _words(report["words"])
    yield from _training(report["for_training"])
    yield (
        f"- ties: guesses in the perfect order, without ties, would have a Spearman of "
        f"{figure(report['ceiling_of_spearman'])}"
    )
    yield (
        f"- headroom: the best seed is {figure(report['mean_headroom'])} above the mean; "
        f"{percent(report['prompts_without_headroom'])} of prompts have none"
    )


def _baselines(report: dict[str, Any]) -> Iterator[str]:
    yield (
        "| guessed by | rank within a prompt | PCC | Spearman | AUC | headroom recovered within "
        f"{report['budget']:.0%} of the NFE | the predictor recovers more by | its rule, by |"
    )
    yield "|---" * 8 + "|"
    yield _row(f"**{report['predictor']}**", report)
    for name, row in report["baselines"].items():
        yield _row(name, row)


def _row(name: str, row: dict[str, Any]) -> str:
    point = row["at_budget"] or {}
    cells = [
        name,
        figure(row["within"]["pairwise"]),
        *(figure(row["pooled"][measure]) for measure in ("pcc", "srcc", "auc")),
        f"{percent(point['recovered'])}, keeping {point['keep']}" if point else "costs more",
        *(
            percent(point[f"{who}_minus_this"]) if f"{who}_minus_this" in point else ""
            for who in ("predictor", "rule")
        ),
    ]
    return f"| {' | '.join(cells)} |"


def networks(ahead: dict[str, Any]) -> Iterator[str]:
    """How far our network is ahead of the others trained on the same data, if there are any."""
    if ahead:
        from promptprobe.evals.ablations.ablations import RETRAINED

        yield f"| {RETRAINED}, is ahead of | in rank within a prompt | in PCC |"
        yield "|---" * 3 + "|"
        for name, by in ahead.items():
            yield f"| {name} | {figure(by['pairwise'])} | {figure(by['pcc'])} |"
        yield ""


def _verdict(found: dict[str, Any] | None) -> Iterator[str]:
    if found:
        steps = "; ".join(
            f"after {k} {figure(row['probe_minus_preview'])}, used: {row['used']}"
            for k, row in found["steps"].items()
        )
        yield (
            f"- verdict of the card: {found['card'] or 'none, its ranks decide'}; here the rank "
            f"of the probe minus the preview's is {steps}"
        )


def _further(found: dict[str, Any]) -> Iterator[str]:
    for name, row in found.items():
        judged, blind = (
            f"{figure(one['within']['pairwise'])}, PCC {figure(one['pooled']['pcc'])}"
            for one in (row, row["blind"])
        )
        yield f"- {name}: rank within a prompt {judged}; without the judge's look {blind}"


def _uncertainty(report: dict[str, Any]) -> Iterator[str]:
    if found := report["calibration"]:
        share = percent(found["width_as_share_of_prompt_only"])
        yield (
            f"- intervals: hold {percent(found['coverage'])} (promised {found['nominal']:.0%}) at "
            f"width {figure(found['mean_width'])}, {share} of prompt-only's, which hold "
            f"{percent(found['prompt only']['coverage'])}"
        )
    if found := report["keep_rule"]:
        yield (
            f"- keep rule: a best seed is among the kept in {percent(found['best_kept'])} of "
            f"prompts, keeping {percent(found['kept'])}"
        )


def _words(found: dict[str, Any] | None) -> Iterator[str]:
    if found:
        ways = [name for name in found if isinstance(found[name], dict) and "all" in found[name]]
        figures = "; ".join(f"{name} {figure(found[name]['all'])}" for name in ways)
        yield f"- AUC of which words will be missing, {found['words']} words: {figures}"


def _training(found: dict[str, Any]) -> Iterator[str]:
    good, differ = found["good"], found["pairs_that_differ"]
    yield (
        f"- good pictures: {percent(good['with'])} of those kept, {percent(good['without'])} of "
        f"all ({figure(good['times'])} times)"
    )
    yield (
        f"- pairs that differ: {percent(differ['with'])} of best and worst guessed, "
        f"{percent(differ['without'])} of {differ['renders_at_equal_nfe']:g} random renders at "
        f"equal NFE; in the right order {percent(differ['in_the_right_order'])}"
    )


def figure(item: dict[str, Any]) -> str:
    """.81 (.77 to .85)."""
    return _interval(item, lambda x: f"{x:.3f}".replace("0.", ".", 1))


def percent(item: dict[str, Any]) -> str:
    """81% (77 to 85)."""
    return _interval(item, lambda x: f"{100 * x:.0f}", "%")


def _interval(item: dict[str, Any], show: Any, unit: str = "") -> str:
    value, low, high = ("?" if item[end] is None else show(item[end]) for end in FIGURE)
    return f"{value}{unit} ({low} to {high})"
