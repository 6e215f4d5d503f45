"""A judge behind the caller's own address: sends images and brief, receives scores.

One POST per batch: {"brief": text, "images": [PNG in base64, ...]}. The reply is {"scores": [...]}
with one entry per image, in order: a number, null, or an object with the fields of `Score`. The
reply is untrusted: it is bounded in size and time, and redirects are not followed, since they would
carry the pictures to somebody else.
"""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from promptprobe.tools.endpoint.endpoint import address_problem
from promptprobe.tools.endpoint.http_client import http_library, read_body
from promptprobe.tools.records import Score
from promptprobe.tools.scorers.table import Opened

if TYPE_CHECKING:
    from PIL import Image

    from promptprobe.tools.scorers.table import Pictures

BATCH = 8
"""Images per request."""
TIMEOUT = 120.0
"""Seconds for a whole request."""
LARGEST_SIDE = 2048
"""Maximum pixels per side; a larger image is downscaled."""
T = TypeVar("T")


class Reply(BaseModel):
    """The service's reply."""

    model_config = ConfigDict(allow_inf_nan=False)

    scores: list[float | Score | None]


def open_http(url: str, _device: str, timeout: float = TIMEOUT) -> Opened:
    """The judge at an address.

    Raises:
        ValueError: it is not a valid address, or contains a password, which would be stored.
    """
    if problem := address_problem(url):
        raise ValueError(f"the judge http:{url:.80}: {problem}")
    if any(mark in url for mark in "@?#"):
        raise ValueError(
            "the address of a judge is written into the run's folder and must not contain a user, "
            "password, query or fragment"
        )

    def score(brief: str, images: Pictures) -> list[Score]:
        found: list[Score] = []
        for first in range(0, len(images), BATCH):
            batch = images[first : first + BATCH]
            found += waited_for(_asked(url, brief, batch, timeout))
        return found

    return Opened(score)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The image encoded in a file format, no side longer than LARGEST_SIDE."""
    sent = image.convert("RGB")
    sent.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    buffer = io.BytesIO()
    sent.save(buffer, kind, **options)
    return buffer.getvalue()


def waited_for(work: Coroutine[Any, Any, T]) -> T:
    """Await `work` in its own thread, since the caller's may already run an event loop."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


async def _asked(url: str, brief: str, images: Pictures, timeout: float) -> list[Score]:
    http = http_library()
    shown = [base64.b64encode(encoded(image, "PNG")).decode() for image in images]
    body = {"brief": brief, "images": shown}
    try:
        async with (
            asyncio.timeout(timeout),
            http.AsyncClient(follow_redirects=False, timeout=timeout) as client,
            client.stream(
                "POST", url, json=body, headers={"Accept-Encoding": "identity"}
            ) as response,
        ):
            text = await read_body(response)
    except TimeoutError as error:
        raise TimeoutError(f"{url} did not reply within {timeout:g} s") from error
    except http.HTTPError as error:
        raise RuntimeError(f"{url} cannot be reached ({error!s:.200})") from error
    if 300 <= response.status_code < 400:
        raise RuntimeError(f"{url} redirects, but pictures are not sent to another address")
    if response.status_code != 200:
        raise RuntimeError(f"{response.status_code} from {url}: {text:.200}")
    try:
        reply = Reply.model_validate_json(text)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(map(str, problem["loc"]))
        raise ValueError(
            f'{url} sent no {{"scores": [number, ...]}}: {where} {problem["msg"]:.120}'
        ) from error
    return [_score(value, url) for value in reply.scores]


def _score(value: float | Score | None, url: str) -> Score:
    if isinstance(value, Score):
        return value
    return Score(reason=f"{url} gave no score") if value is None else Score(value=value)
