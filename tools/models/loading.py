"""Loads models quietly, one at a time, and once per process.

Open models are shared by calls, by the briefs of a batch and by requests. While a model is in use,
everybody who asks for it gets the same one. Unused models are kept up to a limit, and are released
before another is opened. A folder whose files have changed is opened again. Loading is quiet
because a library's progress bars would disturb a run's display, and exclusive because libraries
change globals while they load, such as torch's default dtype, which other threads must not see.
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
"""Bytes of weights that may be kept unused; beyond that, models are released before the next."""
CHATTER = (
    "transformers.utils.import_utils",  # Pillow replaces torchvision, which is intended
    "diffusers.configuration_utils",  # a config has a field that its class ignores
    "huggingface_hub.utils._http",  # it retries; if that fails too, there is an error
    "diffusers.pipelines.pipeline_utils",  # an AutoencoderTiny instead of the pipeline's own VAE
    "diffusers.loaders.lora_base",  # a LoRA does not change the text encoders
)
"""Loggers whose warnings do not matter here; warnings about missing weights are not silenced."""

T = TypeVar("T")


class Shared(Generic[T]):
    """A cache of things opened by key, one at a time, so that concurrent calls share one."""

    def __init__(self, size: Callable[[T], int], most: int) -> None:
        self._size, self._most = size, most
        self._known: WeakValueDictionary[Hashable, T] = WeakValueDictionary()
        self._kept: OrderedDict[Hashable, T] = OrderedDict()

    def get(self, key: Hashable, open_it: Callable[[], T]) -> T:
        """What was opened under this key, or opens now; errors of `open_it` are passed on."""
        with DEVICE:
            found = self._known.get(key)
            if found is None:
                self._make_way()
                found = self._known[key] = open_it()
            self._kept[key] = found
            self._kept.move_to_end(key)
            return found

    def _make_way(self) -> None:
        """Release the least recently used entries until the rest is within the limit."""
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
    """A key that changes when a folder's or file's content does; for a hub id, only its name."""
    path = Path(source)
    if not source:  # Path("") would be the current folder
        return (source,)
    files = sorted(path.rglob("*")) if path.is_dir() else [path] if path.is_file() else []
    found = ((str(file), file.stat()) for file in files)
    return source, *((name, stat.st_mtime_ns, stat.st_size) for name, stat in found)


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Hold the device while the loading bars of diffusers and transformers are turned off.

    Import those libraries inside, too: imports also print warnings.
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
