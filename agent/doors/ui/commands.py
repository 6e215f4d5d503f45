"""`promptprobe ui`: a web page, served on this machine until Ctrl-C.

The command's implementation is imported when it is called, so that help is fast.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from promptprobe.agent.doors import options as o
from promptprobe.agent.doors.schemas import OptimizeRequest, checked

NAMED = ("model", "scorer", "probe")
app = typer.Typer()


@app.command()
@o.with_pictures
@o.with_fields(OptimizeRequest, *NAMED, "llm", panel=o.SEARCH)
def ui(
    context: typer.Context,
    out: Annotated[Path, Option(help="folder of runs")] = Path("runs"),
    port: Annotated[int, Option(min=0, max=65535, help="0: the first free one from 7860")] = 0,
    browse: Annotated[bool, Option("--open", help="open the page in a browser")] = False,
) -> int:
    """Serve a page: type a brief, watch previews form, pick by hand who goes on.

    It is served to this machine only. Needs promptprobe\\[ui].
    """

    def work() -> int:
        import threading

        from promptprobe.agent.doors.session import Session
        from promptprobe.agent.doors.ui.live import Live
        from promptprobe.agent.doors.ui.server import served
        from promptprobe.agent.run_folder import check_folder

        given = {name: context.params[name] for name in (*NAMED, "llm")}
        generation = o.generation_of(context.params)
        asked = checked(OptimizeRequest, {**given, "brief": "a", "generation": generation})
        check_folder(out, "--out")
        named = {name: getattr(asked, name) for name in NAMED}
        session = Session(**named, generation=asked.generation)
        with served(Live(session, out, asked.llm), port, browse=browse) as address:
            o.say(f"promptprobe: {address} (Ctrl-C ends it)")
            threading.Event().wait()
        return o.DONE

    return o.ended("ui", work, lambda: "Runs are kept")
