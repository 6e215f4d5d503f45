"""Whether one image of a size can fit into memory at all, so that nothing is drawn in vain.

On a machine without a GPU too large a picture is no error that can be caught: the system kills the
process. What is counted is only what must be there, so what passes may still not fit; where that is
an error, it is told in words (batches.py).
"""

from __future__ import annotations

from typing import Any

GIGABYTE = 2**30


def check_memory(pipeline: Any, width: int, height: int, device: str) -> None:
    """ValueError, with both figures: one image cannot be decoded in the memory that there is.

    width, height: pixels.
    """
    there, needed = _there(device), least_to_decode(pipeline.vae, width, height)
    if there is not None and needed > there:
        raise ValueError(
            f"one image of {width} x {height} pixels takes at least {needed / GIGABYTE:.1f} GB to "
            f"decode, and {there / GIGABYTE:.1f} GB are there: give a smaller height and width, or "
            "pass the pipeline after pipeline.vae.enable_tiling()"
        )


def least_to_decode(vae: Any, width: int, height: int) -> int:
    """Bytes of what the decoder's last convolution reads, and of what that was made from.

    None of it is there at once where the VAE works in tiles.
    """
    from torch import nn

    if getattr(vae, "use_tiling", False):
        return 0
    kinds = (nn.Conv2d, nn.Conv3d)
    last = [module for module in vae.decoder.modules() if isinstance(module, kinds)][-1]
    return 2 * last.in_channels * width * height * last.weight.element_size()


def _there(device: str) -> int | None:
    """Bytes that this process could have: all of a GPU's, what is free of the machine's."""
    import psutil
    import torch

    if device == "cpu":
        return int(psutil.virtual_memory().available)
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[1])
    return None
