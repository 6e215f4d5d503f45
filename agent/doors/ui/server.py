"""The page itself, on Gradio and for this machine alone: a form, buttons, and a view of the run.

Gradio sends telemetry and opens tunnels to itself where it is not told otherwise. It is told here.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager
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
});
"""
"""Passes on which candidate was clicked; what is picked, the server knows."""
NOW: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
"""How a click is passed on."""
Handler = Callable[..., Coroutine[Any, Any, None]]


@contextmanager
def served(live: Live, port: int = 0, *, browse: bool = False) -> Iterator[str]:
    """Serve the page on this machine for as long as the block lasts.

    Args:
        live: the run that the page shows.
        port: 0 takes a free one from 7860 on.
        browse: open it in a browser.

    Yields:
        The page's address.

    Raises:
        OSError: the port is taken.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
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
    try:
        yield address
    finally:
        if live.loop is not None:
            asyncio.run_coroutine_threadsafe(live.close(), live.loop).result()
        page.close(verbose=False)


def _page(live: Live) -> gr.Blocks:
    with gr.Blocks(title="promptprobe", analytics_enabled=False) as page:
        gr.HTML(view.head(live.session.model))
        brief = gr.Textbox(label="Brief", placeholder="what the picture should show", lines=2)
        with gr.Accordion("Prompts, budget and seed", open=False):
            prompts = gr.Textbox(label="Prompts of your own, one a line", lines=3)
            with gr.Row():
                budget = gr.Dropdown(
                    [
                        (f"{name}: {b.renders:g} renders' worth", name)
                        for name, b in BUDGETS.items()
                    ],
                    value="light",
                    allow_custom_value=True,
                    label="Budget",
                    info="or a number of renders' worth of denoising",
                )
                seed = gr.Number(value=0, precision=0, minimum=0, label="First seed")
        always = gr.Checkbox(label="Stop at each look, so that I can pick who goes on")
        with gr.Row(elem_id="buttons"):
            buttons = {
                "begin": gr.Button("Find the best picture", variant="primary"),
                "ask": gr.Button("Stop at the next look", visible=False),
                "go_on": gr.Button("Let these go on", variant="primary", visible=False),
                "as_planned": gr.Button("As planned", visible=False),
                "end": gr.Button("End the run", visible=False),
            }
        body = gr.HTML(js_on_load=CLICKED)
        report = gr.HTML()
        form = [brief, prompts, budget, seed]
        buttons["begin"].click(_begin(live), form, **NOW)
        buttons["ask"].click(_told(live.ask), **NOW)
        buttons["go_on"].click(_told(live.go_on), **NOW)
        buttons["as_planned"].click(_told(live.as_planned), **NOW)
        buttons["end"].click(_told(live.end), **NOW)
        always.input(_told(live.ask_always), [always], **NOW)
        body.pick(_pick(live), **NOW)
        page.load(
            _follow(live),
            outputs=[body, report, *buttons.values()],
            show_progress="hidden",
            api_visibility="private",
            concurrency_limit=None,
        )
    return page


def _begin(live: Live) -> Handler:
    async def begin(*given: Any) -> None:
        brief, prompts, budget, seed = given  # None: a field that was not opened
        own = [line for line in map(str.strip, (prompts or "").splitlines()) if line]
        live.begin(brief=brief or "", prompts=own or None, budget=budget or "light", seed=seed or 0)

    return begin


def _pick(live: Live) -> Handler:
    async def pick(event: gr.EventData) -> None:
        live.pick(getattr(event, "key", None))

    return pick


def _told(work: Callable[..., None]) -> Handler:
    """The same for Gradio, in the loop of the run instead of a thread."""

    async def told(*given: Any) -> None:
        work(*given)

    return told


def _follow(live: Live) -> Callable[[], AsyncIterator[list[Any]]]:
    """What each change makes of the page, for as long as it is open."""

    async def follow() -> AsyncIterator[list[Any]]:
        live.loop = asyncio.get_running_loop()
        while not live.closed:
            news = live.news
            asks = live.choice is not None
            yield [
                view.body(live),
                view.report(live),
                gr.update(visible=not live.running),
                gr.update(visible=live.running and not asks, interactive=not live.asks_next),
                gr.update(visible=asks, interactive=not live.too_many),
                gr.update(visible=asks),
                gr.update(visible=live.running),
            ]
            await news.wait()

    return follow
