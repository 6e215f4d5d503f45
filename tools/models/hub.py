"""Checks that the Hugging Face hub answers before a library waits for it; finds the file of a LoRA.

If the hub does not answer, libraries retry silently for up to minutes, and have no setting for
that. Here a download is announced on stderr first, and fails at once if the hub does not answer and
there is no cached copy. The timeout is the hub library's own setting, HF_HUB_ETAG_TIMEOUT (10 s).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

CONVENTION = "pytorch_lora_weights.safetensors"
"""The usual name of a LoRA file, as diffusers saves it."""
MOST_NAMES = 8


def is_folder(spec: str) -> bool:
    """Whether this names a local folder; anything else may be a hub id."""
    try:
        return Path(spec).is_dir()
    except OSError:  # too long for a path
        return False


def is_path(spec: str) -> bool:
    """Whether this can only be a path, so that the hub is not asked for it."""
    return spec.startswith(("/", "./", "../", "~")) or "\\" in spec


def ask_hub(
    what: str,
    repository: str,
    file: str,
    endpoint: str | None = None,
    cache: Path | None = None,
) -> None:
    """Announce a download and check that the hub answers; do nothing if all is local already.

    Args:
        what: a description such as "the model".
        repository: a hub id or a local folder.
        file: a file that is needed in any case.
        endpoint: address of the hub; None takes HF_ENDPOINT, or the public one.
        cache: cache folder for hub files; None takes the hub library's default.

    Raises:
        ConnectionError: the hub does not answer.
        HFValidationError: this is not a hub id.
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
    if is_path(repository):
        raise HFValidationError(f"there is no folder {repository[:200]}")
    url = hf_hub_url(repository, file, endpoint=endpoint)
    kept = try_to_load_from_cache(repository, file, cache_dir=cache)
    if constants.HF_HUB_OFFLINE or isinstance(kept, str):
        return
    say_fetching(what, repository, endpoint)
    try:
        get_hf_file_metadata(url, timeout=constants.HF_HUB_ETAG_TIMEOUT, endpoint=endpoint)
    except HfHubHTTPError:
        pass  # it answers; downloading the file will report what is wrong
    except Exception as error:  # the hub library's HTTP clients share no base class of errors
        raise unanswered(error, endpoint) from error


def say_fetching(what: str, repository: str, endpoint: str | None = None) -> None:
    """Print one line on stderr."""
    from huggingface_hub import constants

    sys.stderr.write(f"fetching {what} {repository} from {endpoint or constants.ENDPOINT}\n")
    sys.stderr.flush()


def unanswered(error: Exception, endpoint: str | None = None) -> ConnectionError:
    """The error for a hub that does not answer if there is no cached copy."""
    from huggingface_hub import constants

    return ConnectionError(
        f"{endpoint or constants.ENDPOINT} does not answer ({str(error)[:200]}), and there is no "
        "cached copy"
    )


def reason(error: Exception, expected: str) -> str:
    """Why the hub gave nothing and what to do about it, as the end of a sentence about the hub.

    Args:
        expected: what the repository should contain.
    """
    from huggingface_hub import errors

    match error:
        case errors.GatedRepoError():
            return "lists it as gated; request access there, then run `hf auth login`"
        case errors.RepositoryNotFoundError():
            return "has no such repository, or a private one; check the spelling or `hf auth login`"
        case errors.RemoteEntryNotFoundError() | errors.RevisionNotFoundError():
            return f"has a repository of this name that does not contain {expected}"
        case errors.LocalEntryNotFoundError():
            return (
                f"cannot be reached ({str(error.__cause__)[:200]}), and there is no cached copy; "
                "check the network"
            )
        case ConnectionError():
            return f"cannot be reached: {error}; check the network"
    return f"gave no complete file ({type(error).__name__}: {str(error)[:300]}); try again"


# -- LoRA --------------------------------------------------------------------------------------


def hub_file(source: str) -> tuple[str, str]:
    """Hub id and file of USER/NAME or USER/NAME/FILE; the file is "" if there is none."""
    parts = source.split("/")
    return "/".join(parts[:2]), "/".join(parts[2:])


def lora_file(source: str) -> Path:
    """The .safetensors file of a LoRA, from a folder or the hub.

    Args:
        source: a file, a folder, USER/NAME or USER/NAME/FILE.

    Raises:
        ValueError: there is no file, or several, which the message lists.
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
    except Exception as error:  # errors of the HTTP clients, xet and the disk share no base class
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
        why = "this is not a hub id"
    return ValueError(f"unknown LoRA {source[:200]!r}: no such file or folder here, and {why}")


def the_one(names: Sequence[str], source: str) -> str:
    """The LoRA among a folder's or repository's files. Raises ValueError unless there is one."""
    found = [name for name in names if name.endswith(".safetensors")]
    usual = [name for name in found if PurePosixPath(name).name == CONVENTION]
    if len(usual or found) == 1:
        return (usual or found)[0]
    if not found:
        raise ValueError(f"{source} has no .safetensors file, and pickle files are not read")
    listed = ", ".join(found[:MOST_NAMES]) + (", ..." if len(found) > MOST_NAMES else "")
    raise ValueError(f"{source} has several files ({listed}): name one, as in {source}/{found[0]}")


def _names_in(repository: str) -> list[str]:
    """The files of a repository or, if the hub does not answer, of its cached copy."""
    from huggingface_hub import constants, model_info, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    if not constants.HF_HUB_OFFLINE:
        say_fetching("the LoRA", repository)
    try:
        found = model_info(repository, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except (HfHubHTTPError, HFValidationError):
        raise
    except Exception as error:  # noqa: BLE001 - HTTP clients' errors share no base class
        try:
            kept = Path(snapshot_download(repository, local_files_only=True))
        except LocalEntryNotFoundError:
            raise unanswered(error) from error
        return [file.relative_to(kept).as_posix() for file in sorted(kept.rglob("*.safetensors"))]
    return [file.rfilename for file in found.siblings or ()]
