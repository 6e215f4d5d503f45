"""The same server over HTTP (MCP's streamable HTTP), for clients on this machine or, with a token,
on others.

The SDK checks Host and Origin and limits the size of requests. Beyond loopback every request needs
the bearer token that the owner set; it is compared in constant time and never printed.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import os
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from mcp.server.auth.provider import AccessToken, TokenVerifier
from mcp.server.auth.settings import AuthSettings
from mcp.server.transport_security import TransportSecuritySettings
from pydantic import AnyHttpUrl

from promptprobe.agent.doors.mcp.desk import Desk
from promptprobe.agent.doors.mcp.server import INTERRUPTED, build_server, leave_after_grace
from promptprobe.agent.doors.tool_calls.owner import Owner

TOKEN = "PROMPTPROBE_MCP_TOKEN"  # noqa: S105 - the variable's name
SHORTEST_TOKEN = 16
PATH = "/mcp"
MAX_SESSIONS = 100


class OneToken(TokenVerifier):
    """Accepts only the owner's token."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    async def verify_token(self, token: str) -> AccessToken | None:
        """Access for whoever has the token."""
        if not hmac.compare_digest(token.encode(), self._token):
            return None
        return AccessToken(token=token, client_id="owner", scopes=[])


def check_address(host: str, token: str | None) -> None:
    """Raise ValueError if others could reach this address without a sufficient token."""
    if token is not None and len(token) < SHORTEST_TOKEN:
        raise ValueError(f"{TOKEN} must have at least {SHORTEST_TOKEN} characters")
    if token is None and not is_loopback(host):
        raise ValueError(
            f"--host {host} is open to other machines, which needs a token: set {TOKEN} to a "
            f"secret of at least {SHORTEST_TOKEN} characters, or serve 127.0.0.1"
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def serve_http(
    out: Path, owner: Owner, host: str, port: int, names: tuple[str, ...], token: str | None
) -> None:
    """Serve over HTTP until Ctrl-C; ends the process.

    Args:
        out: where runs and pictures go.
        owner: what the owner decides.
        host: address to listen at.
        port: 0 takes any free one.
        names: other names by which clients reach this machine.
        token: bearer token that clients must send; None: none is needed, on loopback only.

    Raises:
        ValueError: the address is open to others without a sufficient token.
    """
    import uvicorn

    check_address(host, token)
    desk = Desk(out, owner)
    options: dict[str, Any] = {}
    if token is not None:
        issuer = AnyHttpUrl(f"http://{host if ':' not in host else f'[{host}]'}:{port}")
        settings = AuthSettings(issuer_url=issuer, resource_server_url=None)
        options = {"token_verifier": OneToken(token), "auth": settings}
    known = ("127.0.0.1", "localhost", "[::1]", f"[{host}]" if ":" in host else host, *names)
    app = build_server(desk, **options).streamable_http_app(
        streamable_http_path=PATH,
        max_sessions=MAX_SESSIONS,
        transport_security=TransportSecuritySettings(
            allowed_hosts=[*known, *(f"{name}:*" for name in known)],
            allowed_origins=[f"http://{name}:*" for name in known],
        ),
    )
    config = uvicorn.Config(
        app, host=host, port=port, log_level="error", timeout_graceful_shutdown=1
    )
    listening = config.bind_socket()
    listening.listen(config.backlog)
    sys.stderr.write(f"promptprobe: http://{host}:{listening.getsockname()[1]}{PATH}\n")
    sys.stderr.flush()
    server = uvicorn.Server(config)
    stop = server.handle_exit

    def stop_soon(number: int, frame: FrameType | None) -> None:
        leave_after_grace(INTERRUPTED)
        stop(number, frame)

    server.handle_exit = stop_soon  # type: ignore[method-assign,assignment]
    with suppress(asyncio.CancelledError):  # uvicorn passes the signal on
        await server.serve(sockets=[listening])
    leave_after_grace(INTERRUPTED)
    await desk.jobs.close()
    os._exit(INTERRUPTED)  # a normal exit waits for threads, and for seconds until torch is gone
