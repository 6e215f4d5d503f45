"""Restricts the page's server to this machine, both for requests and for what the page may load.

A foreign Host means DNS rebinding, and a foreign Origin another site's page. Gradio's routes to
files and other servers are closed, since the page needs none.
"""

from __future__ import annotations

from starlette.datastructures import URL, Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HERE = {"127.0.0.1", "localhost", "::1"}
CLOSED = ("/gradio_api/file", "/gradio_api/upload", "/gradio_api/proxy", "/gradio_api/stream")
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; "
    "frame-ancestors 'none'; form-action 'none'; base-uri 'self'; object-src 'none'"
)
"""Content security policy without external sources; Gradio's page needs inline scripts and eval."""


class Guard:
    """Middleware that refuses foreign requests and adds the policy to all other responses."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        headers = Headers(scope=scope)
        named = [f"//{headers.get('host', '')}", headers.get("origin", "//localhost")]
        if any(URL(name).hostname not in HERE for name in named):
            refused = PlainTextResponse("this page serves its own machine only", 403)
            return await refused(scope, receive, send)
        if scope["path"].startswith(CLOSED):
            return await PlainTextResponse("no files here", 404)(scope, receive, send)

        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                answer["Content-Security-Policy"] = POLICY
                answer["Referrer-Policy"] = "no-referrer"
            await send(message)

        return await self._app(scope, receive, with_policy)
