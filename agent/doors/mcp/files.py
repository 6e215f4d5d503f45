"""The output folder as resources: which files agents may read, and how they are named.

A resource is `promptprobe://KIND/PATH`, where PATH is relative to the output folder. Nothing
outside it, no symbolic link and no other kind of file can be reached.
"""

from __future__ import annotations

import base64
from pathlib import Path
from urllib.parse import quote, unquote

from mcp import types

from promptprobe.tools.pictures.png import thumbnail

SCHEME = "promptprobe"
KINDS = {"png": "image/png", "html": "text/html", "jsonl": "application/jsonl"}
"""MIME types of files that may be read, by suffix."""
MAX_FILE = 32 * 2**20
MAX_THUMBNAIL = 64 * 2**10
SIDES = (256, 192, 128, 96, 64, 32)


class Files:
    """The output folder of a server."""

    def __init__(self, out: Path) -> None:
        self.out = out.resolve()

    def uri(self, path: Path) -> str:
        """The resource URI of a file in the folder."""
        relative = path.resolve().relative_to(self.out).as_posix()
        return f"{SCHEME}://{path.suffix.lstrip('.')}/{quote(relative)}"

    def located(self, uri: str) -> Path:
        """The file behind a resource.

        Raises:
            ValueError: it is not a resource of this server.
        """
        scheme, _, rest = uri.partition("://")
        kind, _, path = rest.partition("/")
        if scheme != SCHEME or kind not in KINDS:
            raise ValueError(f"expected the link of a result, {SCHEME}://..., got {uri[:200]!r}")
        return self.confined(unquote(path), kind)

    def confined(self, path: str, kind: str) -> Path:
        """The file of this kind at a path relative to the folder; raises ValueError if missing."""
        wrong = ValueError(f"no {kind} of a result is called {path[:200]!r}")
        if "\0" in path or len(path) > 1000:
            raise wrong
        found = self.out / path
        try:  # a link, `..` or an absolute path resolves to another place
            if found.resolve(strict=True) != found or not found.is_relative_to(self.out):
                raise wrong
        except (OSError, RuntimeError) as error:
            raise wrong from error
        if found.suffix != f".{kind}" or not found.is_file():
            raise wrong
        return found

    def read(self, path: str, kind: str) -> bytes:
        """The content of a file. Raises ValueError if it is missing or too large."""
        found = self.confined(path, kind)
        if (size := found.stat().st_size) > MAX_FILE:
            raise ValueError(f"{path} has {size:,} bytes, but at most {MAX_FILE:,} are served")
        return found.read_bytes()

    def link(self, name: str, path: Path) -> types.ResourceLink:
        """A link to a file, for a result."""
        mime_type = KINDS.get(path.suffix.lstrip("."))
        return types.ResourceLink(name=name, uri=self.uri(path), mime_type=mime_type)


def small_picture(path: Path) -> types.ImageContent:
    """A picture as a thumbnail of at most 64 KiB in base64."""
    data = ""
    for side in SIDES:
        data = base64.b64encode(thumbnail(path, side)).decode()
        if len(data) <= MAX_THUMBNAIL:
            break
    return types.ImageContent(data=data, mime_type="image/png")
