"""`stream`: a run as `async for event in stream(...)`; leaving the loop stops the run and keeps it.

The events are those passed to `on_event` (agent/events.py); the last one has the result. Works in
any running event loop, including a notebook's.
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
"""The events of a stream; `kind` tells them apart, also for type checkers."""
ABOUT = """Yield the events of a run while it works; the last one has the result.

    Leaving the loop, or cancelling its task, ends the run between two steps. The run is kept, and
    `resume` continues it. `contextlib.aclosing` waits until it has ended; after a plain `break` it
    ends at the event loop's next iteration.

    Takes the arguments of `{name}`, and raises the same errors.
    """


def streamed(
    work: Callable[P, Coroutine[Any, Any, OptimizationResult]],
) -> Callable[P, AsyncGenerator[StreamEvent, None]]:
    """A version of `work` with the same parameters that yields events."""

    @wraps(work)
    async def stream(*args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[StreamEvent, None]:
        queue: asyncio.Queue[StreamEvent | None] = asyncio.Queue()
        own: Any = kwargs.get("on_event")

        def hear(event: e.Event) -> None:
            if own is not None:
                own(event)
            if not isinstance(event, e.Finished):  # the result has the same content
                queue.put_nowait(event)

        async def run() -> OptimizationResult:
            with cancellable():
                changed: Any = {**kwargs, "on_event": hear}
                return await work(*args, **changed)

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
    function: Any = stream
    function.__name__ = function.__qualname__ = "stream"
    function.__doc__ = ABOUT.format(name=work.__name__)
    function.__signature__ = inspect.signature(work).replace(return_annotation=yields)
    return stream


async def _ended(task: asyncio.Task[OptimizationResult]) -> None:
    """Cancel a run that is in progress, and wait until it has ended."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()  # retrieved, or asyncio would log it as lost


stream = streamed(aoptimize_prompt)
