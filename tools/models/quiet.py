"""Loading without noise, one at a time.

A library's progress bars would break into the display of a run; and while it loads, a library
changes globals, such as torch's default dtype, that no other thread may meet.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from promptprobe.tools.device import DEVICE

CHATTER = (
    "transformers.utils.import_utils",  # Pillow is used for want of torchvision: as we wish
    "diffusers.configuration_utils",  # a config holds a field that its class ignores
    "huggingface_hub.utils._http",  # it tries again; where that fails too, the error says so
    "diffusers.pipelines.pipeline_utils",  # an AutoencoderTiny where a pipeline names another
    "diffusers.loaders.lora_base",  # a LoRA leaves the text encoders alone
)
"""Loggers whose warnings concern nobody here; one on missing weights is not among them."""


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
