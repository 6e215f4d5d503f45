"""Capture of attention from image to text: where did the image look at each token?

Nothing of the model is copied or changed. For one evaluation of the denoiser, hooks on the
attention modules name the layer and enter a TorchFunctionMode around their forward only; the mode
sees the inputs of scaled_dot_product_attention and then calls the original, so the output is
bit-identical with and without capture. Everything is restored on leaving, even after an exception.
An attention backend that bypasses torch's own function is switched off meanwhile
(attention_backend.py); one that cannot be switched off is an error, never an empty map.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from promptprobe.probe.capture.attention_backend import is_compiled, torch_attention

MOST = 16
"""Queries are sampled on a grid of at most 16 x 16."""

AT_ONCE = {"cpu": 2**21, "cuda": 2**26}
"""Attention weights in memory at once (at least one head's); on a CPU, as many as fit its cache."""

GroupMaps = Float[Tensor, "batch group row col"]
Groups = Float[Tensor, "batch group key"]


_Place = tuple[slice | Int[Tensor, " place"], tuple[int, int], slice]


class CaptureError(RuntimeError):
    """Attention was not captured, or not correctly."""


@dataclass(frozen=True)
class Layout:
    """How image and text are arranged in a family's attention."""

    text: Literal["apart", "first", "last"]
    """Text has keys of its own (cross-attention), or comes before or after the image (joint)."""
    patch: int = 1
    """Latent rows and columns per image token, in joint attention."""
    multiple: int = 1
    """The number that image tokens are padded to a multiple of, in joint attention."""
    conditional: Literal["first", "last"] = "last"
    """Which rows of a guided batch hold the conditional half."""

    @property
    def keys(self) -> str:
        """The keys over which a row of attention weights sums to one."""
        return "text" if self.text == "apart" else "text and image"

    def grid(self, queries: int, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of the image's tokens, for latents of `size`."""
        if self.text == "apart":
            return extent(queries, *size)
        return size[0] // self.patch, size[1] // self.patch

    def span(self, keys: int, grid: tuple[int, int], text: int) -> slice:
        """Where the `text` keys are. CaptureError: this number of keys does not fit the layout."""
        image = -(-grid[0] * grid[1] // self.multiple) * self.multiple
        image = 0 if self.text == "apart" else image
        found = keys - image
        if found < text or (found > text and self.multiple == 1):
            raise CaptureError(f"expected {text} text keys among {keys}, found {found}")
        start = image if self.text == "last" else 0
        return slice(start, start + text)


class Capture:
    """Context manager around one evaluation of a denoiser; it can be entered again for the next.

    `layers` are the attention modules of `denoiser` by name; `groups` says, for each candidate,
    which text keys are summed into one map (rows of zeros give empty maps); `size` is the latents'
    rows and columns. Only calls of the thread that entered are seen.
    """

    def __init__(
        self,
        denoiser: nn.Module,
        layers: Mapping[str, nn.Module],
        layout: Layout,
        groups: Groups,
        size: tuple[int, int],
    ) -> None:
        if not layers:
            raise CaptureError("the model has no attention from image to text to capture")
        self.layers = dict(layers)
        self._layout, self._groups, self._size = layout, groups, size
        self._found: dict[str, GroupMaps] = {}
        self._places: dict[tuple[int, int], _Place] = {}
        self._compiled = is_compiled(denoiser)
        self._entered = ExitStack()
        self._thread = 0
        self._inside: list[_Interception] = []

    def __enter__(self) -> Capture:
        self._thread = threading.get_ident()
        with ExitStack() as stack:
            stack.enter_context(torch_attention(self.layers.values(), self._compiled))
            for name, module in self.layers.items():
                for hook in (
                    module.register_forward_pre_hook(self._enter(name)),
                    module.register_forward_hook(self._leave, always_call=True),
                ):
                    stack.callback(hook.remove)
            self._entered = stack.pop_all()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._entered.close()
        if error is not None:
            self._found.clear()

    def take(self) -> dict[str, GroupMaps]:
        """The maps of the last evaluation: each group's share of attention, averaged over heads.

        Float32, at most 16 x 16. Raises CaptureError, naming layer and processor, if a layer has
        no map.
        """
        for name, module in self.layers.items():
            if name not in self._found:
                processor = type(getattr(module, "processor", module)).__name__
                raise CaptureError(
                    f"no attention was captured in {name}: {processor} does not call torch's "
                    "scaled_dot_product_attention, and no replacement for it is known. "
                    "Restore the model's own processor (set_attn_processor, unload the adapter)"
                )
        maps = {name: self._found[name] for name in self.layers}
        self._found.clear()
        return maps

    def _enter(self, name: str) -> Callable[[nn.Module, Any], None]:
        def hook(module: nn.Module, inputs: Any) -> None:
            if threading.get_ident() == self._thread:
                mode = _Interception(lambda *call: self._keep(name, *call))
                mode.__enter__()
                self._inside.append(mode)

        return hook

    def _leave(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if threading.get_ident() == self._thread:
            self._inside.pop().__exit__(None, None, None)

    def _keep(
        self, name: str, query: Tensor, key: Tensor, mask: Tensor | None, scale: float | None
    ) -> None:
        batch = len(self._groups)
        rows = slice(0, batch) if self._layout.conditional == "first" else slice(-batch, None)
        places, shape, span = self._place(query.shape[-2], key.shape[-2], query.device)
        if mask is not None and mask.shape[-2] != 1:
            mask = mask.expand(*query.shape[:-1], -1)[rows, :, places]
        elif mask is not None:
            mask = mask.expand(query.shape[0], *mask.shape[1:])[rows]
        shares = grouped(query[rows, :, places], key[rows], mask, scale, self._on_device(key), span)
        self._found[name] = shares.unflatten(2, shape)

    def _place(self, queries: int, keys: int, device: torch.device) -> _Place:
        """Sampled queries, their grid and the text keys; computed once for layers of one size."""
        if (queries, keys) not in self._places:
            grid = self._layout.grid(queries, self._size)
            span = self._layout.span(keys, grid, self._groups.shape[-1])
            start = span.stop if self._layout.text == "first" else 0
            sampled, shape = sample_grid(*grid)
            every = len(sampled) == grid[0] * grid[1]  # a slice then avoids a copy
            places = slice(start, start + len(sampled)) if every else (sampled + start).to(device)
            self._places[queries, keys] = places, shape, span
        return self._places[queries, keys]

    def _on_device(self, like: Tensor) -> Groups:
        if self._groups.device != like.device:
            self._groups = self._groups.to(like.device)
        return self._groups


class _Interception(TorchFunctionMode):
    """Shows the inputs of scaled_dot_product_attention to `keep`, then calls the original."""

    def __init__(self, keep: Callable[..., None]) -> None:
        super().__init__()
        self._keep = keep

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            self._show(*args, **kwargs)
        return func(*args, **kwargs)

    def _show(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> None:
        if is_causal or enable_gqa:
            raise CaptureError("attention with causal masks or grouped heads is not supported")
        with torch.no_grad():
            self._keep(query, key, attn_mask, scale)


def grouped(
    query: Float[Tensor, "batch head query dim"],
    key: Float[Tensor, "batch head key dim"],
    mask: Tensor | None,
    scale: float | None,
    groups: Float[Tensor, "batch group text"],
    span: slice,
) -> Float[Tensor, "batch group query"]:
    """Each group's share of attention, averaged over heads; chunked over candidates and heads."""
    most = AT_ONCE["cuda" if query.is_cuda else "cpu"]
    batch, heads, queries, keys = *query.shape[:3], key.shape[2]
    rows = min(batch, max(1, most // (queries * keys)))
    chunk = max(1, most // (rows * queries * keys))
    parts = []
    for row in range(0, batch, rows):
        total: Tensor | None = None
        for head in range(0, heads, chunk):
            part = slice(row, row + rows), slice(head, head + chunk)
            bias = mask if mask is None else mask.expand(-1, heads, -1, -1)[part]
            share = attention(query[part], key[part], bias, scale)[..., span].sum(1)
            total = share if total is None else total.add_(share)
        assert total is not None, "attention has a head"
        parts.append(groups[row : row + rows] @ total.transpose(1, 2) / heads)
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def attention(
    query: Float[Tensor, "batch head query dim"],
    key: Float[Tensor, "batch head key dim"],
    mask: Tensor | None,
    scale: float | None,
) -> Float[Tensor, "batch head query key"]:
    """Softmax over all keys of the scaled, masked logits, in float32."""
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    logits = (query.float() * scale) @ key.float().transpose(-1, -2)
    if mask is not None:
        logits = (
            logits.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else logits + mask
        )
    return logits.softmax(-1)


def extent(queries: int, rows: int, cols: int) -> tuple[int, int]:
    """Rows and columns of a layer with this many queries, in a model that halves (rounding up)."""
    start = rows, cols
    while rows * cols > queries:
        rows, cols = -(-rows // 2), -(-cols // 2)
    if rows * cols != queries:
        raise CaptureError(f"no repeated halving of latents of {start} gives {queries} queries")
    return rows, cols


def sample_grid(rows: int, cols: int) -> tuple[Int[Tensor, " place"], tuple[int, int]]:
    """Row-major indices of queries that sample a grid of at most 16 x 16, and the grid's shape."""
    high, wide = min(rows, MOST), min(cols, MOST)
    down = ((torch.arange(high) + 0.5) * rows / high).long()
    across = ((torch.arange(wide) + 0.5) * cols / wide).long()
    return (down[:, None] * cols + across[None, :]).flatten(), (high, wide)
