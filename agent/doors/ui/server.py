"""The page itself, built with Gradio: a form, buttons, and a view of the run.

By default Gradio sends telemetry and can open tunnels to itself; both are turned off here.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from promptprobe.agent.doors.ui import view
from promptprobe.agent.doors.ui.guard import Guard
from promptprobe.agent.doors.ui.live import Live
from promptprobe.tools.records import BUDGETS

FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")
CLICKED = """
element.addEventListener('click', (event) => {
  const card = event.target.closest('[data-pick]');
  if (card) trigger('pick', { key: card.dataset.pick });
  const run = event.target.closest('[data-resume]');
  if (run) trigger('resume', { key: run.dataset.resume });
});
"""
"""Sends the clicked candidate or run to the server, which keeps the picks."""
NOW: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
"""Gradio options for handling a click."""
FOLLOWING: dict[str, Any] = {**NOW, "queue": True, "concurrency_limit": None}


@contextmanager
def served(live: Live, port: int = 0, *, browse: bool = False) -> Iterator[str]:
    """Serve the page on this machine for as long as the block lasts.

    Args:
        live: the run that the page shows.
        port: 0 takes the first free one from 7860.
        browse: open it in a browser.

    Yields:
        The page's address.

    Raises:
        OSError: the port is taken.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    with ThreadPoolExecutor(1) as thread:
        page, address = thread.submit(asyncio.run, _launched(live, port, browse)).result()
    try:
        yield address
    finally:
        live.close()
        _close(page)


async def _launched(live: Live, port: int, browse: bool) -> tuple[gr.Blocks, str]:
    """The page and its address; without a running event loop Gradio opens some and closes none."""
    page = _page(live)
    theme = gr.themes.Default(
        primary_hue="blue", font=FONTS, font_mono=("ui-monospace", "monospace")
    )
    _, address, _ = page.queue(default_concurrency_limit=None).launch(
        server_name="127.0.0.1",
        server_port=port or None,
        share=False,
        prevent_thread_lock=True,
        quiet=True,
        inbrowser=browse,
        allowed_paths=[],
        max_file_size=1,
        enable_monitoring=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        run_history=False,
        footer_links=[],
        app_kwargs={"middleware": [Middleware(Guard)]},
        theme=theme,
        css_paths=[view.CSS],
    )
    return page, address


def _close(page: gr.Blocks) -> None:
    """Close the page without waiting for open browsers, and without logging them."""
    log = logging.getLogger("uvicorn.error")
    level = log.level
    log.setLevel(logging.CRITICAL)
    page.server.force_exit = True
    page.close(verbose=False)
    log.setLevel(level)


def _page(live: Live) -> gr.Blocks:
    with gr.Blocks(title="promptprobe", analytics_enabled=False) as page:
        gr.HTML(view.head(live.session.model))
        form = _form()
        always = gr.Checkbox(label="Stop at each look, so that I can pick who goes on")
        with gr.Row(elem_id="buttons"):
            begin = gr.Button("Find the best picture", variant="primary")
            ask = gr.Button("Stop at the next look", visible=False)
            go_on = gr.Button("Let these go on", variant="primary", visible=False)
            as_planned = gr.Button("As planned", visible=False)
            end = gr.Button("End the run", visible=False)
        body = gr.HTML(js_on_load=CLICKED)
        report = gr.HTML()

        async def pick(clicked: gr.EventData) -> None:
            await live.pick(getattr(clicked, "key", None))

        async def resume(clicked: gr.EventData) -> None:
            await live.resume(getattr(clicked, "key", None))

        begin.click(live.begin, form, **NOW)
        ask.click(live.ask, **NOW)
        go_on.click(live.go_on, **NOW)
        as_planned.click(live.as_planned, **NOW)
        end.click(live.end, **NOW)
        always.input(live.ask_always, [always], **NOW)
        body.pick(pick, **NOW)
        body.resume(resume, **NOW)
        shown = [body, report, begin, ask, go_on, as_planned, end]
        page.load(partial(_follow, live), outputs=shown, **FOLLOWING)
    return page


def _form() -> list[gr.Component]:
    """The form's fields: brief, prompts, budget and seed."""
    budgets = [(f"{name}: {b.renders:g} renders' worth", name) for name, b in BUDGETS.items()]
    brief = gr.Textbox(label="Brief", placeholder="what the picture should show", lines=2)
    with gr.Accordion("Prompts, budget and seed", open=False):
        prompts = gr.Textbox(label="Prompts of your own, one a line", lines=3)
        with gr.Row():
            budget = gr.Dropdown(
                budgets,
                value="light",
                allow_custom_value=True,
                label="Budget",
                info="or a number of renders' worth of denoising",
            )
            seed = gr.Number(value=0, precision=0, minimum=0, label="First seed")
    return [brief, prompts, budget, seed]


async def _follow(live: Live) -> AsyncIterator[list[Any]]:
    """Yield updates of the page after each change, for as long as it is open."""
    async for _ in live.follow():
        asks, running = live.choice is not None, live.running
        yield [
            view.body(live, await live.unfinished()),
            view.report(live),
            gr.update(visible=not running),
            gr.update(visible=running and not asks, interactive=not live.asks_next),
            gr.update(visible=asks, interactive=not live.too_many),
            gr.update(visible=asks),
            gr.update(visible=running),
        ]
