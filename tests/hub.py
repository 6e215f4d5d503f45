"""A Hugging Face hub of one repository, as far as it is listed and fetched, on this machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

REPOSITORY = "someone/a-probe"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What it holds, and what was asked of it."""

    files: dict[str, bytes]
    told: dict[str, int | None] = field(default_factory=dict)
    """Sizes that HEAD tells instead of the true ones; None: it does not."""
    error: str = ""
    """Answered instead of any file: an error code of the hub."""
    endpoint: str = ""
    asked: list[str] = field(default_factory=list)
    """Method and file, with the revision; of a listing, nothing."""


class _Server(ThreadingHTTPServer):
    hub: Hub


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        hub = self.server.hub
        if self.path.startswith("/api/models/"):
            return self.list_files(self.path.removeprefix("/api/models/").partition("?")[0])
        repository, _, rest = self.path[1:].partition("/resolve/")
        revision, _, name = rest.partition("/")
        hub.asked.append(f"{self.command} {revision}/{name}")
        if repository != REPOSITORY:
            self.refuse("RepoNotFound")
        elif hub.error or name not in hub.files:
            self.refuse(hub.error or "EntryNotFound")
        else:
            data = hub.files[name]
            size = len(data) if body else hub.told.get(name, len(data))
            self.send_response(200)
            self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            if size is not None:
                self.send_header("Content-Length", str(size))
            self.end_headers()
            self.wfile.write(data if body else b"")

    def list_files(self, asked: str) -> None:
        """What a repository holds, as the hub's API says it."""
        files = self.server.hub.files
        if not asked.startswith(REPOSITORY):
            return self.refuse("RepoNotFound")
        if "/tree/" in asked:
            listing: object = [
                {"type": "file", "path": name, "size": len(data), "oid": "0" * 40}
                for name, data in files.items()
            ]
        else:
            siblings = [{"rfilename": name} for name in files]
            listing = {"id": REPOSITORY, "sha": COMMIT, "siblings": siblings}
        data = json.dumps(listing).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def refuse(self, code: str) -> None:
        self.send_response(403 if code == "GatedRepo" else 404)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Answer on a free port until the block ends."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.hub, hub.endpoint = hub, f"http://127.0.0.1:{server.server_port}"
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield hub
        finally:
            server.shutdown()


def folder_files(folder: Path) -> dict[str, bytes]:
    """All files of a folder, as a repository holds them."""
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def use(endpoint: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have this process ask the hub at an address, and keep what it gives in a folder."""
    from huggingface_hub import constants, hf_api

    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(hf_api.api, "endpoint", endpoint)
