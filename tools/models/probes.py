"""Finds probes by name: a shipped one, a folder, or a repository on the Hugging Face hub.

Wherever a probe comes from, `load_probe` checks its two files and limits their size; no other file
of a repository is downloaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HFValidationError

from promptprobe.probe.model.card import RANK, Card, ProbeError, check, model_spec_of
from promptprobe.probe.model.checkpoint import CARD, MOST_BYTES, WEIGHTS, load_probe
from promptprobe.tools.models.built_in import PLUGINS, built_in, built_ins
from promptprobe.tools.models.hub import ask_hub, is_folder, reason
from promptprobe.tools.models.loading import quiet_loading
from promptprobe.tools.models.model import DEFAULTS, open_model
from promptprobe.tools.nearest import did_you_mean, folders_beside
from promptprobe.tools.records import Generation, Record
from promptprobe.tools.toolbox import settings_of

DEPTHS = ("", "*/", "*/*/")
HELP = (
    "expected a folder that `promptprobe train` made (DIR/probe), a hub id (USER/NAME), or "
    f"the name of a built-in model ({', '.join(PLUGINS)}) for the shipped one"
)


class Listed(Record):
    """A probe in a list: what it is for and how well it ranks, or what is wrong with it."""

    probe: str
    """Its name for --probe: a built-in model's name for the shipped one, or its folder."""
    folder: Path
    problem: str = ""
    model: str | None = None
    targets: tuple[str, ...] = ()
    steps: int | None = None
    """Steps of a full render."""
    windows: tuple[int, ...] = ()
    """Numbers of steps after which it can predict."""
    ranks: tuple[float | None, ...] = ()
    """Share of a prompt's pairs of seeds in the right order, for the first target, by window."""
    candidates: int | None = None
    """Number of candidates that it was trained on."""


def list_probes(folders: Sequence[Path]) -> list[Listed]:
    """The shipped probes, and those in the folders and up to two levels below.

    A folder with only one of the two files is listed as broken.

    Raises:
        ValueError: one of the folders does not exist.
    """
    found = [one.probe for one in built_ins() if one.probe.is_dir()]
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"expected a folder to look for probes in, got {folder}")
        files = (file for at in DEPTHS for name in MOST_BYTES for file in folder.glob(at + name))
        found += sorted({file.parent for file in files})
    return [_listed(folder) for folder in dict.fromkeys(found)]


def _listed(folder: Path) -> Listed:
    shipped = (one.name for one in built_ins() if one.probe == folder)
    name = next(shipped, str(folder))
    try:
        card = load_probe(folder).card
    except ProbeError as error:
        return Listed(probe=name, folder=folder, problem=str(error))
    first = card.targets[0].name
    return Listed(
        probe=name,
        folder=folder,
        model=card.model,
        targets=tuple(target.name for target in card.targets),
        steps=card.made_with.steps,
        windows=tuple(window.k for window in card.windows),
        ranks=tuple(window.figures.get(first, {}).get(RANK) for window in card.windows),
        candidates=card.candidates,
    )


def verify_probe(folder: Path, model: str | None = None, generation: Generation = DEFAULTS) -> Card:
    """The card of a probe that is intact and, if a model is named, was made for it.

    Raises:
        ProbeError: it is broken, or made for another model or other settings; names both values.
        ValueError: the model cannot be opened.
    """
    card = load_probe(folder).card
    if model is not None:
        opened = open_model(model, generation)
        check(card, model_spec_of(opened.family, settings_of(opened.generation)))
    return card


def locate_probe(spec: str | Path, endpoint: str | None = None, cache: Path | None = None) -> Path:
    """The folder of a probe, whose files `load_probe` has yet to check.

    Args:
        spec: a built-in model's name, a folder, or a hub id; a folder takes precedence over a hub
            id.
        endpoint: address of the hub; None takes HF_ENDPOINT, or the public one.
        cache: cache folder for hub files; None takes the hub library's default.

    Raises:
        ProbeError: it is none of these, or the hub does not have both files.
    """
    name = str(spec)
    if own := built_in(name):
        return own.probe
    if is_folder(name):
        return Path(name)
    meant = did_you_mean(name, [*PLUGINS, *folders_beside(name)])
    neither = ProbeError(
        f"unknown probe {name[:200]!r}{meant}: no such folder, and not a hub id; {HELP}"
    )
    if "/" not in name:
        raise neither
    try:
        with quiet_loading():
            return _fetched(name, endpoint, cache)
    except HFValidationError as error:
        raise neither from error
    except ProbeError:
        raise
    except Exception as error:  # errors of the HTTP clients, xet and the disk share no base class
        raise ProbeError(
            f"unknown probe {name!r}: no such folder here, and the Hugging Face hub "
            f"{reason(error, f'both {CARD} and {WEIGHTS}')}; {HELP}"
        ) from error


def _fetched(repository: str, endpoint: str | None, cache: Path | None) -> Path:
    """Download both files from one commit, and nothing of a file that is too large."""
    ask_hub("the probe", repository, CARD, endpoint, cache)
    commit = None
    for name in (CARD, WEIGHTS):
        found = hf_hub_download(
            repository, name, revision=commit, endpoint=endpoint, cache_dir=cache, dry_run=True
        )
        if (found.file_size or 0) > MOST_BYTES[name]:
            raise ProbeError(
                f"{name} of the hub's {repository} has {found.file_size} bytes, expected at most "
                f"{MOST_BYTES[name]}: this is not a probe"
            )
        path = hf_hub_download(
            repository, name, revision=commit, endpoint=endpoint, cache_dir=cache
        )
        commit = Path(path).parent.name
    return Path(path).parent
