"""Judges from the caller's own Python code: their results are checked, and they cannot hang a run.

A function whose second parameter is called `images` gets all of them at once; any other gets one
image per call, so that one failure costs one score.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import math
import sys
import threading
from collections.abc import Callable, Mapping, Set
from contextvars import copy_context
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from promptprobe.tools.records import Score
from promptprobe.tools.scorers.table import Opened, name_of, parts_of

if TYPE_CHECKING:
    from promptprobe.tools.scorers.table import Pictures

PATIENCE = 300.0
"""Seconds for one call. A function that takes longer is not called again: it cannot be stopped."""
EXPECTED = "a function of (brief, image) -> number or Score, or (brief, images) -> a list of those"


def open_python(argument: str, _device: str) -> Opened:
    """The function that FILE.py:FUNCTION or MODULE:FUNCTION names.

    Raises:
        ValueError: there is no such module or function, or importing it fails.
    """
    source, _, name = argument.rpartition(":")
    if not source or not name:
        raise ValueError(
            f"expected python:FILE.py:FUNCTION or python:MODULE:FUNCTION, got python:{argument}"
        )
    found = _imported(source)
    for part in name.split("."):
        if not hasattr(found, part):
            raise ValueError(f"{source} has no {name}; a judge is {EXPECTED}")
        found = getattr(found, part)
    if not callable(found):
        raise ValueError(f"{name} of {source} is {type(found).__name__}; expected {EXPECTED}")
    return open_function(found)


def open_function(function: Callable[..., Any], patience: float = PATIENCE) -> Opened:
    """The caller's function as a judge. It gets copies, since many functions resize in place.

    Args:
        function: see `EXPECTED`.
        patience: seconds for one call.
    """
    name = name_of(function)
    if isinstance(function, type):
        raise ValueError(f"{name} is a class: give an instance of it; a judge is {EXPECTED}")

    def listed(brief: str, images: Pictures) -> list[Any]:
        given = _not_async(function(brief, [image.copy() for image in images]))
        unordered = isinstance(given, str | bytes | Mapping | Set)
        if unordered or not hasattr(given, "__iter__") or getattr(given, "ndim", 1) == 0:
            raise TypeError(f"expected a list of {len(images)} numbers, got {_shown(given)}")
        return list(given)

    def single(brief: str, image: Any) -> Any:
        return _not_async(function(brief, image.copy()))

    ask = Patient(listed if _takes_many(function) else single, patience)

    def batch(brief: str, images: Pictures) -> list[Score]:
        return [_tried(name, _score, value) for value in ask(brief, images)]

    def one(brief: str, image: Any) -> Score:
        return _score(ask(brief, image))

    def one_by_one(brief: str, images: Pictures) -> list[Score]:
        return [_tried(name, one, brief, image) for image in images]

    if _takes_many(function):
        return Opened(batch, may_decline=True, tried_on=2)
    return Opened(one_by_one, may_decline=True)


class Patient:
    """Calls a function in its own thread, with a timeout."""

    def __init__(self, function: Callable[..., Any], patience: float) -> None:
        self.function, self.patience = function, patience
        self._stuck = False

    def __call__(self, *given: Any) -> Any:
        """Call the function and return its result.

        Raises:
            TimeoutError: it has not returned in time, now or in an earlier call.
            Exception: whatever the function raises.
        """
        late = f"no answer within {self.patience:g} s, so it is not called again"
        if self._stuck:
            raise TimeoutError(late)
        ended: list[tuple[Any, BaseException | None]] = []

        def work() -> None:
            try:
                ended.append((self.function(*given), None))
            except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
                ended.append((None, error))

        thread = threading.Thread(
            target=copy_context().run, args=(work,), name="scorer", daemon=True
        )
        thread.start()
        thread.join(self.patience)
        if not ended:
            self._stuck = True
            raise TimeoutError(late)
        value, error = ended[0]
        if isinstance(error, Exception):
            raise error
        if error is not None:  # sys.exit in a scorer must not end the run
            raise RuntimeError(f"{type(error).__name__}: {error}") from error
        return value


def _not_async(value: Any) -> Any:
    if inspect.iscoroutine(value):
        value.close()
        raise TypeError("it is an async function, but a judge is not awaited")
    return value


def _tried(name: str, score: Callable[..., Score], *given: Any) -> Score:
    try:
        return score(*given)
    except Exception as error:  # noqa: BLE001 - the caller's code may raise anything
        reason = f"{name} failed: {type(error).__name__}: {error}"
        return Score(reason=reason[:300], failed=True)


def _score(value: Any) -> Score:
    if isinstance(value, Score):
        return value
    count = value.numel() if hasattr(value, "numel") else getattr(value, "size", 1)
    alone = value.item() if count == 1 and hasattr(value, "item") else value
    if isinstance(alone, str | bytes | None) or count != 1:
        raise TypeError(f"expected a number or a Score, got {_shown(value)}")
    try:
        number = float(alone)
    except (TypeError, ValueError) as error:
        raise TypeError(f"expected a number or a Score, got {_shown(value)}") from error
    if not math.isfinite(number):
        raise ValueError(f"expected a finite number, got {number}")
    return Score(value=number)


def _shown(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return f"{type(value).__name__} {f'of shape {tuple(shape)}' if shape else f'{value!r:.60}'}"


def _takes_many(function: Callable[..., Any]) -> bool:
    try:
        parameters = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return False
    return parameters[1:2] == ["images"]


class _AsItIsNow(SourceFileLoader):
    """Compiles the source each time: cached bytecode is only compared by whole seconds and size."""

    def get_code(self, fullname: str) -> Any:
        return self.source_to_code(self.get_data(self.path), self.path)


def _imported(source: str) -> ModuleType:
    path = Path(source).expanduser().resolve()
    if not source.endswith(".py"):
        _reachable(Path.cwd())
    elif not path.is_file():
        raise ValueError(f"there is no file {source} in {Path.cwd()}")
    try:
        return _of_file(path) if source.endswith(".py") else importlib.import_module(source)
    except (Exception, SystemExit) as error:
        relative = "attempted relative import" in str(error)
        hint = "; of a package, name it as python:PACKAGE.MODULE:FUNCTION" if relative else ""
        raise ValueError(
            f"{source} cannot be imported: {type(error).__name__}: {error!s:.200}{hint}"
        ) from error


def _of_file(path: Path) -> ModuleType:
    """Import a file as a module, which can import files next to it, as a script can."""
    name = f"scorer_{path.stem}"
    _reachable(path.parent)
    spec = importlib.util.spec_from_file_location(name, path, loader=_AsItIsNow(name, str(path)))
    assert spec is not None and spec.loader is not None, "the loader was given"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


def _reachable(folder: Path) -> None:
    """Make modules of a folder importable, with the lowest precedence."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def source_of(spec: str) -> str:
    """The file of a judge that is a Python file; for others, the part after the name's colon."""
    argument = spec.partition(":")[2]
    file = argument.rpartition(":")[0]
    return str(Path(file).expanduser()) if file.endswith(".py") else argument


def names_code(spec: str) -> bool:
    """Whether this judge runs the caller's code or sends pictures to an address."""
    return any(part.startswith(("python:", "http:", "https:")) for part in parts_of(spec))
