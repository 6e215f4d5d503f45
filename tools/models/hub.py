"""The Hugging Face hub, asked once before a library waits for it; and the one file of a LoRA.

Libraries ask a hub that does not answer again and again, for up to minutes and in silence, and have
no setting for that. Here a fetch is said on stderr before it begins, and a hub that does not answer
ends it, unless a copy is kept here. How long an answer may take is the hub library's own setting,
HF_HUB_ETAG_TIMEOUT (10 s).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

CONVENTION = "pytorch_lora_weights.safetensors"
"""What diffusers calls the file of a LoRA."""
MOST_NAMES = 8


def is_folder(spec: str) -> bool:
    """Whether this names a folder here; anything else may be a hub id."""
    try:
        return Path(spec).is_dir()
    except OSError:  # too long for a path
        return False


def ask_hub(
    what: str,
    repository: str,
    file: str,
    endpoint: str | None = None,
    cache: Path | None = None,
) -> None:
    """Say what is fetched, and see that the hub answers; neither where it is all here already.

    Args:
        what: "the model", say.
        repository: a hub id, or a folder here.
        file: one that is fetched in any case.
        endpoint: address of the hub; None takes HF_ENDPOINT, or the public one.
        cache: where files of the hub are kept; None takes the hub library's own place.

    Raises:
        ConnectionError: the hub does not answer.
        HFValidationError: this is no hub id.
    """
    from huggingface_hub import (
        constants,
        get_hf_file_metadata,
        hf_hub_url,
        try_to_load_from_cache,
    )
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    if is_folder(repository):
        return
    if repository.startswith(("/", "./", "../", "~")):
        raise HFValidationError(f"there is no folder {repository[:200]}")
    url = hf_hub_url(repository, file, endpoint=endpoint)
    kept = try_to_load_from_cache(repository, file, cache_dir=cache)
    if constants.HF_HUB_OFFLINE or isinstance(kept, str):
        return
    say_fetching(what, repository, endpoint)
    try:
        get_hf_file_metadata(url, timeout=constants.HF_HUB_ETAG_TIMEOUT, endpoint=endpoint)
    except HfHubHTTPError:
        pass  # it answers; who asks for the file is told what is wrong with it
    except Exception as error:  # HTTP clients come and go, and their errors share no base
        raise unanswered(error, endpoint) from error


def say_fetching(what: str, repository: str, endpoint: str | None = None) -> None:
    """One line on stderr."""
    from huggingface_hub import constants

    sys.stderr.write(f"fetching {what} {repository} from {endpoint or constants.ENDPOINT}\n")
    sys.stderr.flush()


def unanswered(error: Exception, endpoint: str | None = None) -> ConnectionError:
    """What is raised where the hub does not answer and nothing is kept here."""
    from huggingface_hub import constants

    return ConnectionError(
        f"{endpoint or constants.ENDPOINT} does not answer ({str(error)[:200]}), and no copy was "
        "kept here"
    )


def reason(error: Exception, expected: str) -> str:
    """Why the hub gave nothing, and what to do about it, to follow "the hub".

    expected: what its repository should hold.
    """
    from huggingface_hub import errors

    match error:
        case errors.GatedRepoError():
            return "gives it to its members only; ask for access there, then `hf auth login`"
        case errors.RepositoryNotFoundError():
            return (
                "has no such repository, or a private one; check the spelling, or `hf auth login`"
            )
        case errors.RemoteEntryNotFoundError() | errors.RevisionNotFoundError():
            return f"has a repository of this name that does not hold {expected}"
        case errors.LocalEntryNotFoundError():
            return (
                f"cannot be reached ({str(error.__cause__)[:200]}), and no copy was kept here; "
                "check the network"
            )
        case ConnectionError():
            return f"cannot be reached: {error}; check the network"
    return f"gave no whole file ({type(error).__name__}: {str(error)[:300]}); try again"


# -- LoRA --------------------------------------------------------------------------------------


def hub_file(source: str) -> tuple[str, str]:
    """Hub id and file of USER/NAME or USER/NAME/FILE; no file: ""."""
    parts = source.split("/")
    return "/".join(parts[:2]), "/".join(parts[2:])


def lora_file(source: str) -> Path:
    """The .safetensors file of a LoRA: the one that is meant, of a folder or of the hub.

    Args:
        source: a file, a folder, USER/NAME or USER/NAME/FILE.

    Raises:
        ValueError: there is none, or several; says which.
    """
    from huggingface_hub import hf_hub_download

    path = Path(source)
    if path.is_file():
        return path
    if is_folder(source):
        return path / the_one([file.name for file in sorted(path.iterdir())], source)
    repository, file = hub_file(source)
    try:
        names = [file] if file else _names_in(repository)
        if file:
            ask_hub("the LoRA", repository, file)
    except Exception as error:  # two HTTP clients, xet and the disk: their errors share no base
        raise _unknown(source, error) from error
    name = the_one(names, source)
    try:
        return Path(hf_hub_download(repository, name))
    except Exception as error:  # as above
        raise _unknown(source, error) from error


def _unknown(source: str, error: Exception) -> ValueError:
    from huggingface_hub.errors import HFValidationError

    why = f"the Hugging Face hub {reason(error, 'this file')}"
    if isinstance(error, HFValidationError):
        why = "this is no hub id"
    return ValueError(f"unknown LoRA {source[:200]!r}: no such file or folder here, and {why}")


def the_one(names: Sequence[str], source: str) -> str:
    """Which of a folder's or repository's files is the LoRA. ValueError: none, or several."""
    found = [name for name in names if name.endswith(".safetensors")]
    usual = [name for name in found if PurePosixPath(name).name == CONVENTION]
    if len(usual or found) == 1:
        return (usual or found)[0]
    if not found:
        raise ValueError(f"{source} holds no .safetensors, and no pickle is read: it is no LoRA")
    listed = ", ".join(found[:MOST_NAMES]) + (", ..." if len(found) > MOST_NAMES else "")
    raise ValueError(f"{source} holds several files ({listed}): name one, as {source}/{found[0]}")


def _names_in(repository: str) -> list[str]:
    """The files of a repository; where the hub does not answer, those of it that are kept here."""
    from huggingface_hub import constants, model_info, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    if not constants.HF_HUB_OFFLINE:
        say_fetching("the LoRA", repository)
    try:
        found = model_info(repository, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except (HfHubHTTPError, HFValidationError):
        raise
    except Exception as error:  # noqa: BLE001 - HTTP clients come and go
        try:
            kept = Path(snapshot_download(repository, local_files_only=True))
        except LocalEntryNotFoundError:
            raise unanswered(error) from error
        return [file.relative_to(kept).as_posix() for file in sorted(kept.rglob("*.safetensors"))]
    return [file.rfilename for file in found.siblings or ()]
