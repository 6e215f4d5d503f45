"""Who rewrites in a run: what the caller gives goes before what the model brings along."""

from __future__ import annotations

from collections.abc import Sequence

from promptprobe.agent.rewrite.guard import no_reading
from promptprobe.agent.rewrite.proposers import (
    CallersPrompts,
    OfflineProposer,
    Proposer,
    Rewrite,
    SeedsOnly,
)
from promptprobe.tools.endpoint.endpoint import LLM, Endpoint
from promptprobe.tools.endpoint.local_endpoint import PREFIX, LocalEndpoint
from promptprobe.tools.models.built_in import built_in


def choose_proposer(
    llm: LLM | None, prompts: Sequence[str] | None, rewrite: Rewrite, model: str
) -> Proposer:
    """The caller's own prompts first, then an LLM, then what the model allows.

    Raises:
        ValueError: both were given, or the LLM's endpoint is not set up.
    """
    if llm and rewrite == "off":
        raise ValueError('rewrite="off" and llm=... contradict each other: give one of them')
    if llm and prompts:
        raise ValueError("llm and prompts were both given: either an LLM rewrites, or you do")
    own = built_in(model)
    if prompts:
        return CallersPrompts(tuple(prompts))
    if rewrite == "off":
        return SeedsOnly("rewriting is off: only seeds are searched")
    if llm:
        from promptprobe.agent.rewrite.llm import LlmProposer

        endpoint = LocalEndpoint(llm) if llm.model.startswith(PREFIX) else Endpoint(llm)
        endpoint.check()
        return LlmProposer(endpoint, own.check_rewrite if own else no_reading)
    if own:
        return OfflineProposer(own.rewrites, own.rewriter)
    return SeedsOnly(
        "no LLM and no prompts were given, so only seeds are searched: "
        "set llm=NAME or prompts=[...] to have rewrites tried"
    )
