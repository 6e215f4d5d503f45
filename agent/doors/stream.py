"""`stream`: a run as `async for event in stream(...)`; leaving the loop ends it, and it is kept.

The events are those that `on_event` hears (agent/events.py); the last one holds the result. Works
in any running loop, a notebook's too.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Callable, Coroutine
from functools import wraps
from typing import Any, Literal, ParamSpec, TypeAlias

from pydantic import Field

from promptprobe.agent import events as e
from promptprobe.agent.optimize import aoptimize_prompt
from promptprobe.agent.result import OptimizationResult
from promptprobe.probe.cancellation import cancellable
from promptprobe.tools.records import Record, Spend

P = ParamSpec("P")


class Stopped(Record):
    """The end of a run, and the last event of its stream."""

    kind: Literal["stopped"] = "stopped"
    spent: Spend
    result: OptimizationResult = Field(description="as `optimize_prompt` returns it")


StreamEvent: TypeAlias = (
    e.RunStarted
    | e.RoundStarted
    | e.PromptsProposed
    | e.CandidatesProbed
    | e.CandidatesSelected
    | e.CandidatesRendered
    | e.CandidatesScored
    | e.RoundEnded
    | e.Warned
    | Stopped
)
"""What a stream yields; `kind` tells which, to type checkers too."""
ABOUT = """The events of a run while it works, as an async generator; the last has the result.

    Leaving the loop, or cancelling its task, ends the run between two steps. It is kept, and goes
    on with `resume`. `contextlib.aclosing` waits until it has ended; after a plain `break` it ends
    as soon as the event loop turns.

    Takes the arguments of `{name}`, and raises what that raises.
    """


def streamed(
    work: Callable[P, Coroutine[Any, Any, OptimizationResult]],
) -> Callable[P, AsyncGenerator[StreamEvent, None]]:
    """The same with the same parameters, as a stream of events."""

    @wraps(work)
    async def stream(*args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[StreamEvent, None]:
        queue: asyncio.Queue[StreamEvent | None] = asyncio.Queue()
        own: Any = kwargs.get("on_event")

        def hear(event: e.Event) -> None:
            if own is not None:
                own(event)
            if not isinstance(event, e.Finished):  # what it says is in the result
                queue.put_nowait(event)

        async def run() -> OptimizationResult:
            with cancellable():
                heard: Any = {**kwargs, "on_event": hear}
                return await work(*args, **heard)

        task = asyncio.create_task(run())
        task.add_done_callback(lambda _: queue.put_nowait(None))
        try:
            while (event := await queue.get()) is not None:
                yield event
            result = await task
            yield Stopped(spent=result.spent, result=result)
        finally:
            await _ended(task)

    yields = "AsyncGenerator[StreamEvent, None]"
    said: Any = stream
    said.__name__ = said.__qualname__ = "stream"
    said.__doc__ = ABOUT.format(name=work.__name__)
    said.__signature__ = inspect.signature(work).replace(return_annotation=yields)
    return stream


async def _ended(task: asyncio.Task[OptimizationResult]) -> None:
    """Cancel a run that is under way, and wait for its end, however it ends."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()  # nobody waits for it any longer


stream = streamed(aoptimize_prompt)
