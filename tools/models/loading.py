"""Models are loaded without noise, one at a time, and once a process.

What is open is shared: by calls, by the briefs of a batch, by requests. While somebody holds a
model, everybody who asks for it gets the same one. What nobody holds is kept for the next who asks,
up to a bound, and makes way before another is opened. A folder whose files have changed is opened
anew. A library's progress bars would break into the display of a run; and while it loads, a library
changes globals, such as torch's default dtype, that no other thread may meet.
"""

from __future__ import annotations

import gc
import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar
from weakref import WeakValueDictionary

from promptprobe.tools.device import DEVICE

MOST_IDLE = 2**32
"""Bytes of weights kept that nobody may be using. What is larger makes way for the next model."""
CHATTER = (
    "transformers.utils.import_utils",  # Pillow is used for want of torchvision: as we wish
    "diffusers.configuration_utils",  # a config holds a field that its class ignores
    "huggingface_hub.utils._http",  # it tries again; where that fails too, the error says so
    "diffusers.pipelines.pipeline_utils",  # an AutoencoderTiny where a pipeline names another
    "diffusers.loaders.lora_base",  # a LoRA leaves the text encoders alone
)
"""Loggers whose warnings concern nobody here; one on missing weights is not among them."""

T = TypeVar("T")


class Shared(Generic[T]):
    """Opened once by key. All it does happens in turn, so two who ask at once wait for one."""

    def __init__(self, size: Callable[[T], int], most: int) -> None:
        self._size, self._most = size, most
        self._known: WeakValueDictionary[Hashable, T] = WeakValueDictionary()
        self._kept: OrderedDict[Hashable, T] = OrderedDict()

    def get(self, key: Hashable, open_it: Callable[[], T]) -> T:
        """What was opened under this key, or is opened now; whatever that raises passes through."""
        with DEVICE:
            found = self._known.get(key)
            if found is None:
                self._make_way()
                found = self._known[key] = open_it()
            self._kept[key] = found
            self._kept.move_to_end(key)
            return found

    def _make_way(self) -> None:
        """Let go of what was asked for longest ago, until the rest is within bounds."""
        kept = len(self._kept)
        while sum(map(self._size, self._kept.values())) > self._most:
            self._kept.popitem(last=False)
        if len(self._kept) < kept:
            gc.collect()


def weights_size(pipeline: Any) -> int:
    """Bytes of a pipeline's parameters and buffers."""
    parts = [part for part in pipeline.components.values() if hasattr(part, "parameters")]
    tensors = (t for part in parts for group in (part.parameters(), part.buffers()) for t in group)
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def fingerprint(source: str) -> tuple[Hashable, ...]:
    """What tells one state of a folder or file from another; of a hub id, nothing but its name."""
    path = Path(source)
    if not source:  # Path("") would be the folder that we stand in
        return (source,)
    files = sorted(path.rglob("*")) if path.is_dir() else [path] if path.is_file() else []
    found = ((str(file), file.stat()) for file in files)
    return source, *((name, stat.st_mtime_ns, stat.st_size) for name, stat in found)


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Take a turn, switch off the loading bars of diffusers and transformers, and restore them.

    Import what loads inside, too: some of the noise is made by imports.
    """
    with DEVICE, ExitStack() as restored:
        import diffusers.utils.logging
        import transformers.utils.logging

        for bars in (diffusers.utils.logging, transformers.utils.logging):
            if bars.is_progress_bar_enabled():
                bars.disable_progress_bar()
                restored.callback(bars.enable_progress_bar)
        for name in CHATTER:
            logger = logging.getLogger(name)
            restored.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)
        yield
