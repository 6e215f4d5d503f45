"""A run in a notebook: the best so far, below the cell and updated in place.

It uses IPython's display messages and needs no widget library. IPython is not imported unless a
kernel runs. The displayed text is untrusted, and the template escapes it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptprobe.agent.doors.display import Meter, describe, plain, value
from promptprobe.agent.events import Event, Finished, OnEvent, RoundEnded, RunStarted
from promptprobe.agent.search.policy import best_of
from promptprobe.tools.records import Spend, Trial

if TYPE_CHECKING:
    from promptprobe.tools.pictures.embedded import Embedded

TEMPLATES = Path(__file__).parent / "templates"
SIDE = 384
"""Maximum pixels of the best picture's longer side: it is sent again with each event."""


def shown_in_notebook(on_event: OnEvent | None) -> OnEvent | None:
    """`on_event` or, in a notebook, a callback that calls it and shows the run below the cell."""
    if not _in_kernel():
        return on_event
    view = NotebookView()

    def hear(event: Event) -> None:
        view.show(event)
        if on_event:
            on_event(event)

    return hear


def _in_kernel() -> bool:
    """Whether this is a Jupyter kernel, not plain Python or an IPython terminal."""
    ipython = sys.modules.get("IPython")  # a kernel has already imported it
    shell = ipython.get_ipython() if ipython else None
    return getattr(shell, "kernel", None) is not None


class NotebookView:
    """The state of a run according to its events, as a notebook shows it."""

    def __init__(self) -> None:
        self.meter = Meter()
        self.brief = self.status = ""
        self.spent = Spend()
        self.best: Trial | None = None
        self.ended = False
        self._handle: Any = None
        self._picture: tuple[Path, Embedded | None] | None = None

    def show(self, event: Event) -> None:
        """Update the view with one event."""
        from IPython.display import display

        self._take(event)
        if self._handle is None:
            self._handle = display(self, display_id=True)
        else:
            self._handle.update(self)

    def _take(self, event: Event) -> None:
        self.meter.update(event)
        self.status, self.spent = describe(event), event.spent
        match event:
            case RunStarted():
                self.brief, self.best = event.brief, event.best
            case RoundEnded():
                self.best = event.best
            case Finished():
                self.best, self.ended = event.best, True
            case _:
                trials = getattr(event, "trials", ())
                self.best = best_of([*filter(None, [self.best]), *trials])

    @property
    def picture(self) -> Embedded | None:
        """The best picture so far."""
        from promptprobe.tools.pictures.embedded import embed

        path = self.best.image if self.best else None
        if path is None:
            return None
        if self._picture is None or self._picture[0] != path:
            self._picture = path, embed(path, SIDE)
        return self._picture[1]

    def _repr_html_(self) -> str:
        from promptprobe.agent.report.page import environment

        template = environment(TEMPLATES).get_template("notebook.html.jinja")
        return template.render(view=self, score=value(self.best.score) if self.best else "")

    def __repr__(self) -> str:
        """One line, for front ends that only show text."""
        best = self.best
        found = f'; best {value(best.score)} "{plain(best.candidate.prompt, 80)}"' if best else ""
        return f"{plain(self.brief, 80)}: {self.status}{found}"
