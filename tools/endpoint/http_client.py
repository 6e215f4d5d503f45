"""HTTP requests to an OpenAI-compatible endpoint whose replies are untrusted.

The openai SDK sends and retries (429 and 5xx, honouring Retry-After). Redirects are not followed,
since they would carry the brief to somebody else. Every body is first read here: at most MAX_REPLY
bytes, before and after decompression, and as text whatever charset it claims.
"""

from __future__ import annotations

import importlib
import zlib
from typing import Any
from urllib.parse import urlsplit

MAX_REPLY = 1_000_000
"""Maximum bytes of a reply, including error pages."""
LEAST_SECRET = 8
"""Minimum length of a key that counts as secret; "none" and "EMPTY" do not."""
RETRIES = 2
API = "https://api.openai.com/v1"
_WINDOW_BITS = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": 32 + 15}


class RefusedError(RuntimeError):
    """The endpoint gave no completion; the message says why, and what to do."""

    def __init__(self, message: str, status: int = 0, body: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.body = body
        """The body of the endpoint's reply."""


class UnreadableError(RuntimeError):
    """A body that is too long, or whose size cannot be bounded."""


class HttpClient:
    """Sends chat completions to one address, and counts what it sent."""

    def __init__(self, base_url: str, key: str, key_name: str) -> None:
        self.base_url = base_url
        self.key = key
        self.key_name = key_name
        self.sent = 0
        """Number of requests so far, including the SDK's own retries."""

    @property
    def address(self) -> str:
        """The URL of requests, without any secrets in it."""
        parts = urlsplit(self.base_url)
        host = parts.netloc.rpartition("@")[2]
        return f"{parts.scheme}://{host}{parts.path.rstrip('/')}/chat/completions"

    async def post(self, arguments: dict[str, Any], timeout: float) -> str:
        """The body of the reply.

        Raises:
            RefusedError: there is no completion.
        """
        import openai

        http = http_library()
        try:
            client = openai.AsyncOpenAI(
                base_url=self.base_url,
                api_key=self.key,
                timeout=timeout,
                max_retries=RETRIES,
                default_headers={"Accept-Encoding": "identity"},
                http_client=openai.DefaultAsyncHttpxClient(
                    follow_redirects=False,
                    event_hooks={"request": [self._count], "response": [self._read]},
                ),
            )
            async with client:
                raw = await client.chat.completions.with_raw_response.create(**arguments)
                text: str = raw.http_response.text
                return text
        except openai.APIStatusError as error:
            raise self._refused(error.status_code, error.response) from error
        except (openai.OpenAIError, UnreadableError, http.HTTPError, http.InvalidURL) as error:
            raise RefusedError(self._unreachable(error)) from error
        except (ValueError, TypeError, LookupError, OSError) as error:
            raise RefusedError(self._unreachable(error)) from error

    async def _count(self, _: Any) -> None:
        self.sent += 1

    async def _read(self, response: Any) -> None:
        """Read the bounded body and put it back as UTF-8, with the key masked."""
        body = without_secret(await read_body(response), self.key).encode()
        response.headers["content-type"] = "text/plain; charset=utf-8"
        response.headers["content-length"] = str(len(body))
        response.stream = http_library().ByteStream(body)

    def _refused(self, status: int, response: Any) -> RefusedError:
        """The error for a status other than success."""
        body = response.text.strip()
        short = f"{status} from {self.address}"
        if 300 <= status < 400:
            to = urlsplit(response.headers.get("location", ""))
            where = f"{to.scheme}://{to.hostname}{to.path}" if to.hostname else to.path
            message = (
                f"{short}: it redirects to {where[:200]!r}, but a brief is not sent to another "
                "address. If you trust that address, give it as the base URL"
            )
        elif status in (401, 403):
            message = f"{short}: it refuses the key; set {self.key_name} to a valid one"
        elif status in (429, 503):
            wait = response.headers.get("retry-after", "")
            waits = f", it asks to wait {wait[:40]} s" if wait else ""
            message = f"{short}: out of quota or too busy{waits}: {body:.200}"
        elif status in (404, 405) or body.startswith("<"):
            message = f"{short}: {body[:120]!r}{self.hint}"
        else:
            message = f"{short}: {body:.200}"
        return RefusedError(message, status, body)

    @property
    def hint(self) -> str:
        """A hint for an address that answers with something unexpected."""
        if "/v1" in self.base_url:
            return ""
        return ". The base URL of an OpenAI-compatible endpoint usually ends in /v1: try that"

    def _unreachable(self, error: BaseException) -> str:
        import openai

        cause = error if isinstance(error, UnreadableError) else error.__cause__ or error
        if isinstance(cause, UnreadableError):
            return f"{self.address} {cause}"
        if isinstance(error, openai.APITimeoutError):
            return f"{self.address} did not reply in time"
        return f"{self.address} cannot be reached ({cause!s:.200}): check the base URL"


def without_secret(text: str, key: str) -> str:
    """The text with a key masked that an endpoint or an error message echoes."""
    return text.replace(key, "***") if len(key) >= LEAST_SECRET else text


def http_library() -> Any:
    """The HTTP library under the SDK: httpx, or its successor in newer versions."""
    import openai

    base = next(c for c in openai.DefaultAsyncHttpxClient.__mro__ if c.__name__ == "AsyncClient")
    return importlib.import_module(base.__module__.partition(".")[0])


async def read_body(response: Any) -> str:
    """The body of an open response as text, of at most MAX_REPLY bytes.

    Raises:
        UnreadableError: it is longer, or compressed in a way that cannot be bounded.
    """
    return _decoded(await _bounded(response), response.headers.get("content-type", ""))


async def _bounded(response: Any) -> bytes:
    """The decompressed body, of at most MAX_REPLY bytes."""
    coding = response.headers.pop("content-encoding", "identity").strip().lower()
    if coding not in ("identity", "", *_WINDOW_BITS):
        raise UnreadableError(f"sent {coding[:40]!r}, unasked, whose size cannot be bounded")
    inflate = zlib.decompressobj(_WINDOW_BITS[coding]) if coding in _WINDOW_BITS else None
    raw = bytearray()
    try:
        async for chunk in response.stream:
            left = MAX_REPLY + 1 - len(raw)
            raw += inflate.decompress(chunk, left) if inflate else chunk
            if len(raw) > MAX_REPLY:
                raise UnreadableError(f"sent more than {MAX_REPLY:,} bytes")
    except zlib.error as error:
        raise UnreadableError(f"sent {coding} that cannot be unpacked ({error})") from error
    finally:
        await response.stream.aclose()
    return bytes(raw)


def _decoded(body: bytes, content_type: str) -> str:
    """Decode as UTF-8 whatever the header says, or else with the header's charset if possible."""
    charset = content_type.lower().rpartition("charset=")[2].strip("\"' ;")
    for name in ("utf-8-sig", charset):
        try:
            return body.decode(name)
        except (ValueError, LookupError):
            continue
    return body.decode("latin-1")
