"""Capture of cross-attention: where did the image look at each token?

Nothing of the model is copied or changed. Hooks on the attention modules name the layer and enter
a TorchFunctionMode around their forward only; the mode sees scaled_dot_product_attention's inputs
and then calls the original, so the model's output is bit-identical with and without. Everything is
restored on leaving, after an exception too. These UNets call torch's own function, so there is no
attention backend to switch; a processor that takes another way is an error, never an empty map.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

MOST = 16
"""Queries are sampled on a grid of at most 16 x 16."""

TOLERANCE = 1e-5
"""How far a captured map may be from the plain reference, in fp32."""

AttentionMaps = Float[Tensor, "batch down across key"]


class CaptureError(RuntimeError):
    """Attention that should have been captured was not, or not rightly."""


class Capture:
    """Context manager: the cross-attention of every forward pass inside it, layer by layer.

    `layers` are the attention modules by name; `batch` candidates sit in the last rows (under
    guidance the conditional half comes last); `size` is the latents' rows and columns.
    """

    def __init__(
        self, layers: Mapping[str, nn.Module], *, batch: int, size: tuple[int, int]
    ) -> None:
        if not layers:
            raise CaptureError("the model has no cross-attention module to capture")
        self.layers = dict(layers)
        self._batch = batch
        self._size = size
        self._found: dict[str, AttentionMaps] = {}
        self._hooks: list[Any] = []
        self._inside: list[_Interception] = []

    def __enter__(self) -> Capture:
        for name, module in self.layers.items():
            self._hooks.append(module.register_forward_pre_hook(self._enter(name)))
            self._hooks.append(module.register_forward_hook(self._leave, always_call=True))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._found.clear()

    def take(self) -> dict[str, AttentionMaps]:
        """The maps since the last `take`: mean over heads, one softmax row over all keys a query.

        A layer that ran more than once since then gives its last map. Float32, at most 16 x 16.
        Raises CaptureError, naming layer and processor, if any layer gave none.
        """
        for name, module in self.layers.items():
            if name not in self._found:
                processor = type(getattr(module, "processor", module)).__name__
                raise CaptureError(
                    f"no attention was captured in {name}: {processor} does not call torch's "
                    f"scaled_dot_product_attention. Switch slicing, xformers and the like off "
                    f"(pipeline.unet.set_attn_processor(AttnProcessor2_0()))"
                )
        maps = {name: self._found[name] for name in self.layers}
        self._found.clear()
        return maps

    def _enter(self, name: str) -> Callable[[nn.Module, Any], None]:
        def hook(module: nn.Module, inputs: Any) -> None:
            mode = _Interception(lambda *call: self._keep(name, *call))
            mode.__enter__()
            self._inside.append(mode)

        return hook

    def _leave(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._inside.pop().__exit__(None, None, None)

    def _keep(
        self, name: str, query: Tensor, key: Tensor, mask: Tensor | None, scale: float | None
    ) -> None:
        rows, cols = extent(query.shape[-2], *self._size)
        places, shape = sample_grid(rows, cols)
        places = places.to(query.device)
        if mask is not None and mask.shape[-2] != 1:
            mask = mask.expand(*query.shape[:-1], -1)[-self._batch :, :, places]
        elif mask is not None:
            mask = mask.expand(query.shape[0], *mask.shape[1:])[-self._batch :]
        weights = attention(query[-self._batch :, :, places], key[-self._batch :], mask, scale)
        maps = rearrange(weights.mean(1), "b (row col) key -> b row col key", row=shape[0])
        self._found[name] = maps


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
            raise CaptureError("cross-attention with causal masks or grouped heads is not known")
        with torch.no_grad():
            self._keep(query, key, attn_mask, scale)


def attention(
    query: Float[Tensor, "batch head query dim"],
    key: Float[Tensor, "batch head key dim"],
    mask: Tensor | None,
    scale: float | None,
) -> Float[Tensor, "batch head query key"]:
    """Softmax over all keys of the scaled, masked logits, in float32."""
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    logits = (query.float() @ key.float().transpose(-1, -2)) * scale
    if mask is not None:
        logits = (
            logits.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else logits + mask
        )
    return logits.softmax(-1)


def extent(queries: int, rows: int, cols: int) -> tuple[int, int]:
    """Rows and columns of a layer with so many queries, for a UNet that halves (rounding up)."""
    start = rows, cols
    while rows * cols > queries:
        rows, cols = -(-rows // 2), -(-cols // 2)
    if rows * cols != queries:
        raise CaptureError(f"{queries} queries fit no halving of latents of {start}")
    return rows, cols


def sample_grid(rows: int, cols: int) -> tuple[Int[Tensor, " place"], tuple[int, int]]:
    """Which queries (row-major) stand for a grid of at most 16 x 16, and the grid's shape."""
    high, wide = min(rows, MOST), min(cols, MOST)
    down = ((torch.arange(high) + 0.5) * rows / high).long()
    across = ((torch.arange(wide) + 0.5) * cols / wide).long()
    return (down[:, None] * cols + across[None, :]).flatten(), (high, wide)


@torch.no_grad()
def reference(
    module: Any, hidden: Float[Tensor, "batch query dim"], text: Float[Tensor, "batch key text"]
) -> Float[Tensor, "batch query key"]:
    """Head mean of a diffusers Attention's softmax, computed plainly from the module's inputs."""
    if module.norm_cross:
        text = module.norm_encoder_hidden_states(text)
    query, key = (
        rearrange(made.float(), "b n (head dim) -> b head n dim", head=module.heads)
        for made in (module.to_q(hidden), module.to_k(text))
    )
    logits = torch.einsum("bhqd,bhkd->bhqk", query, key) * module.scale
    return logits.softmax(-1).mean(1)


def self_check(
    layers: Mapping[str, nn.Module], forward: Callable[[], None], size: tuple[int, int]
) -> None:
    """Hold every layer's captured map to the plain reference on one forward pass.

    `forward` runs the denoiser once on one candidate with latents of `size`, without guidance.
    Raises CaptureError naming the first layer whose map is missing or wrong.
    """
    inputs: dict[str, tuple[Tensor, Tensor]] = {}

    def remember(name: str) -> Callable[[nn.Module, Any, dict[str, Any]], None]:
        def hook(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
            inputs[name] = args[0], kwargs["encoder_hidden_states"]

        return hook

    hooks = [
        module.register_forward_pre_hook(remember(name), with_kwargs=True)
        for name, module in layers.items()
    ]
    try:
        with Capture(layers, batch=1, size=size) as capture:
            forward()
            captured = capture.take()
    finally:
        for hook in hooks:
            hook.remove()
    for name, maps in captured.items():
        hidden, text = inputs[name]
        places, _ = sample_grid(*extent(hidden.shape[1], *size))
        expected = reference(layers[name], hidden, text)[:, places.to(hidden.device)]
        error = (rearrange(maps, "b row col key -> b (row col) key") - expected).abs().max().item()
        if not error <= TOLERANCE:
            raise CaptureError(
                f"the captured attention of {name} is {error:.2g} from a plain softmax, "
                f"expected at most {TOLERANCE}: this model's attention is not understood"
            )
