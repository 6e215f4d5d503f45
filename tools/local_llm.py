"""A language model in this process, constrained to a JSON schema, and released after use.

transformers loads and samples; llguidance (MIT, also used by guidance, vLLM and llama.cpp) masks
every token that would break the schema. xgrammar does the same but brings a compiler along, and
outlines a framework. Weights are read as safetensors or GGUF, never unpickled, and no code that
comes with them is run.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promptprobe.tools.models.hub import ask_hub, is_folder
from promptprobe.tools.models.loading import quiet_loading

EXTRA = "promptprobe[local-llm]"


@dataclass(frozen=True)
class Completion:
    """A model's output."""

    text: str
    tokens: int
    """Tokens of prompt and completion."""
    cut_off: bool
    """Whether it was stopped by a limit, so that the JSON may be unfinished."""


@dataclass(frozen=True)
class Sampling:
    """Sampling settings."""

    max_tokens: int
    temperature: float
    """0 takes the most likely token."""
    seed: int
    go_on: Callable[[], bool] = lambda: True
    """Called after every token; False stops."""


class LocalLlm:
    """A chat model from a folder, a .gguf file or the Hugging Face hub, loaded on first use."""

    def __init__(self, source: str) -> None:
        """Locate the model without loading it.

        Raises:
            ValueError: a library is missing, or a folder holds no language model.
        """
        self.source = source
        self._place = _located(source)
        self._loaded: _Loaded | None = None

    def complete(
        self, system: str, user: str, schema: dict[str, Any], sampling: Sampling
    ) -> Completion:
        """One answer in the schema.

        Raises:
            ValueError: the model did not load, or the question exceeds its context.
            RuntimeError: it does not fit into memory.
        """
        if self._loaded is None:
            self._loaded = _load(*self._place)
        return self._loaded.complete(system, user, schema, sampling)

    def release(self) -> None:
        """Free the weights' memory; the next question loads them again."""
        if self._loaded is None:
            return
        self._loaded = None
        gc.collect()
        from accelerate.utils.memory import clear_device_cache

        clear_device_cache()


def _located(source: str) -> tuple[str, dict[str, str]]:
    """What transformers should load, and its options. Raises ValueError if it cannot be an LLM."""
    from importlib.util import find_spec

    if missing := [name for name in ("llguidance", "gguf") if find_spec(name) is None]:
        raise ValueError(f"local: needs {' and '.join(missing)}; pip install '{EXTRA}'")
    path = Path(source).expanduser()
    source = str(path)
    if path.suffix == ".gguf" and path.is_file():
        return str(path.parent), {"gguf_file": path.name}
    if not is_folder(source):
        return source, {}
    if (path / "config.json").is_file():
        return source, {}
    ggufs = sorted(path.glob("*.gguf"))
    if len(ggufs) == 1:
        return source, {"gguf_file": ggufs[0].name}
    raise ValueError(
        f"{source} holds neither config.json nor one .gguf file ({len(ggufs)} found): expected a "
        "language model in transformers' format, or the .gguf file itself"
    )


def _load(source: str, options: dict[str, str]) -> _Loaded:
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        with quiet_loading():
            from transformers import AutoModelForCausalLM, AutoTokenizer

            ask_hub("the LLM", source, "config.json")
            tokenizer: Any = AutoTokenizer.from_pretrained(source, **options)
            model: Any = AutoModelForCausalLM.from_pretrained(
                source,
                use_safetensors=True,
                dtype=torch.float32 if device == "cpu" else "auto",
                **options,
            )
            return _Loaded(tokenizer, model.to(device).eval())
    except torch.OutOfMemoryError as error:
        raise RuntimeError(f"the LLM {source} does not fit into memory: {error!s:.200}") from error
    except Exception as error:  # a broken folder can raise anything
        raise ValueError(
            f"the LLM {source} did not load: {type(error).__name__}: {str(error)[:300]}. Expected "
            "a causal language model in transformers' format (safetensors) or GGUF, with a fast "
            "tokenizer"
        ) from error


class _Loaded:
    """Tokenizer, weights, and llguidance's view of the tokens."""

    def __init__(self, tokenizer: Any, model: Any) -> None:
        from llguidance.hf import from_tokenizer

        self._tokenizer, self._model = tokenizer, model
        self._tokens = from_tokenizer(tokenizer, n_vocab=model.config.get_text_config().vocab_size)

    def complete(
        self, system: str, user: str, schema: dict[str, Any], sampling: Sampling
    ) -> Completion:
        import torch
        from transformers import LogitsProcessorList, StoppingCriteriaList

        ids = self._read(system, user)
        most = self._model.config.get_text_config().max_position_embeddings
        if ids.shape[1] + 1 >= most:
            raise ValueError(f"the question has {ids.shape[1]} tokens, but the LLM reads {most}")
        grammar = _Grammar(self._tokens, schema, ids.shape[1])
        limit = min(sampling.max_tokens, most - ids.shape[1])
        choose: dict[str, Any] = {"do_sample": False}
        if sampling.temperature > 0:
            choose = {"do_sample": True, "temperature": sampling.temperature, "top_k": 0}
        with torch.random.fork_rng(), torch.inference_mode():
            torch.manual_seed(sampling.seed)
            written = self._model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=limit,
                eos_token_id=self._tokenizer.eos_token_id,
                pad_token_id=self._tokenizer.eos_token_id,
                logits_processor=LogitsProcessorList([grammar.mask]),
                stopping_criteria=StoppingCriteriaList([lambda *_: not sampling.go_on()]),
                **choose,
            )[0, ids.shape[1] :]
        text = self._tokenizer.decode(written, skip_special_tokens=True)
        ended = grammar.ended(written.tolist())
        return Completion(text, ids.shape[1] + len(written), cut_off=not ended)

    def _read(self, system: str, user: str) -> Any:
        """Token ids [1, token] of the question, in the model's chat template if it has one."""
        from jinja2.exceptions import TemplateError

        messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
        if self._tokenizer.chat_template is None:
            plain = f"{system}\n\n{user}\n\n"
            return self._tokenizer(plain, return_tensors="pt").input_ids.to(self._model.device)
        try:
            return self._chat(messages)
        except TemplateError:  # the template has no system role
            return self._chat([{"role": "user", "content": f"{system}\n\n{user}"}])

    def _chat(self, messages: list[dict[str, str]]) -> Any:
        return self._tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        ).input_ids.to(self._model.device)


class _Grammar:
    """Follows the generated tokens, and masks those that may not come next."""

    def __init__(self, tokens: Any, schema: dict[str, Any], start: int) -> None:
        from llguidance import LLMatcher

        dense: Any = {"whitespace_flexible": False}
        self._matcher = LLMatcher(
            tokens, LLMatcher.grammar_from_json_schema(schema, defaults=dense)
        )
        self._seen = start
        self._end = tokens.eos_token

    def mask(self, ids: Any, logits: Any) -> Any:
        """Logits [1, token], set to minus infinity where a token would break the schema.

        llguidance.torch does the same with torch.compile, which needs a C++ compiler.
        """
        import numpy as np
        import torch

        for token in ids[0, self._seen :].tolist():
            self._matcher.consume_token(token)
        self._seen = ids.shape[1]
        packed = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        allowed = np.unpackbits(packed, bitorder="little")[: logits.shape[-1]].astype(bool)
        return logits.masked_fill(~torch.from_numpy(allowed).to(logits.device), float("-inf"))

    def ended(self, written: list[int]) -> bool:
        """Whether the JSON value is complete after these tokens."""
        return self._matcher.is_stopped() or written[-1:] == [self._end]
