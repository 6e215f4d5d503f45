"""Probes by name: where they come from, and that nothing broken comes through any door."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from promptprobe.probe.model.card import ProbeError
from promptprobe.probe.model.checkpoint import CARD, MOST_BYTES, WEIGHTS, load_probe
from promptprobe.tools.models.model import open_toolbox
from promptprobe.tools.models.probes import list_probes, locate_probe, verify_probe
from promptprobe.tools.records import Generation
from promptprobe.tools.sprites import PROBE
from promptprobe.tools.sprites.plugin import MODELS
from tests.hub import COMMIT, REPOSITORY, Hub, serving


@pytest.fixture
def hub() -> Iterator[Hub]:
    """It holds the shipped probe, and a file that is none of it."""
    files = {name: (PROBE / name).read_bytes() for name in (CARD, WEIGHTS)}
    with serving(Hub(files | {"README.md": b"A probe."})) as found:
        yield found


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


# From the hub


def test_of_a_hub_id_both_files_of_one_commit_are_fetched_and_no_other(
    hub: Hub, cache: Path
) -> None:
    folder = locate_probe(REPOSITORY, hub.endpoint, cache)
    assert load_probe(folder).card == load_probe(PROBE).card
    assert sorted(path.name for path in folder.iterdir()) == [CARD, WEIGHTS]
    assert set(hub.asked) == {
        f"HEAD main/{CARD}", f"GET main/{CARD}",
        f"HEAD {COMMIT}/{WEIGHTS}", f"GET {COMMIT}/{WEIGHTS}",
    }  # fmt: skip


def test_a_probe_that_was_fetched_is_found_without_the_network(cache: Path) -> None:
    files = {name: (PROBE / name).read_bytes() for name in (CARD, WEIGHTS)}
    with serving(Hub(files)) as hub:
        fetched = locate_probe(REPOSITORY, hub.endpoint, cache)
    assert locate_probe(REPOSITORY, hub.endpoint, cache) == fetched


def test_a_folder_wins_over_a_hub_id_of_the_same_spelling(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / REPOSITORY).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert locate_probe(REPOSITORY, hub.endpoint) == Path(REPOSITORY)
    assert hub.asked == []


@pytest.mark.parametrize("name", [CARD, WEIGHTS])
def test_a_file_that_is_too_large_is_refused_before_it_is_fetched(
    hub: Hub, cache: Path, name: str
) -> None:
    hub.told[name] = MOST_BYTES[name] + 1
    with pytest.raises(
        ProbeError, match=rf"{name} .*{MOST_BYTES[name] + 1} bytes, expected at most"
    ):
        locate_probe(REPOSITORY, hub.endpoint, cache)
    assert not [asked for asked in hub.asked if asked.startswith("GET") and asked.endswith(name)]


def test_a_large_file_whose_size_the_hub_does_not_tell_is_refused_unread(
    hub: Hub, cache: Path
) -> None:
    hub.files[CARD] += b" " * MOST_BYTES[CARD]
    hub.told[CARD] = None
    folder = locate_probe(REPOSITORY, hub.endpoint, cache)
    with pytest.raises(ProbeError, match=f"bytes, expected at most {MOST_BYTES[CARD]}"):
        load_probe(folder)


def test_a_file_that_comes_cut_short_is_refused(hub: Hub, cache: Path) -> None:
    hub.told[WEIGHTS] = len(hub.files[WEIGHTS])
    hub.files[WEIGHTS] = hub.files[WEIGHTS][:-10]
    with pytest.raises(ProbeError, match="hub gave no complete file"):
        locate_probe(REPOSITORY, hub.endpoint, cache)


def test_a_file_that_is_truncated_on_the_hub_is_refused(hub: Hub, cache: Path) -> None:
    hub.files[WEIGHTS] = hub.files[WEIGHTS][:-10]
    with pytest.raises(ProbeError, match="truncated or not the file that its card describes"):
        verify_probe(locate_probe(REPOSITORY, hub.endpoint, cache))


@pytest.mark.parametrize("name", [CARD, WEIGHTS])
def test_a_repository_without_the_files_is_told_from_none(hub: Hub, cache: Path, name: str) -> None:
    del hub.files[name]
    with pytest.raises(ProbeError, match=f"does not contain both {CARD} and {WEIGHTS}"):
        locate_probe(REPOSITORY, hub.endpoint, cache)
    with pytest.raises(ProbeError, match=r"'someone/else': .*hub has no such repository"):
        locate_probe("someone/else", hub.endpoint, cache)


def test_a_gated_repository_says_so(hub: Hub, cache: Path) -> None:
    hub.error = "GatedRepo"
    with pytest.raises(ProbeError, match="gated; request access"):
        locate_probe(REPOSITORY, hub.endpoint, cache)


def test_without_the_network_and_a_copy_both_are_named(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ProbeError, match=r"cannot be reached .*there is no cached copy"):
        locate_probe(REPOSITORY, cache=cache)


@pytest.mark.parametrize(
    "spec", ["nowhere", "../no-such-probe", "/no/such/probe", "a/b/c", "x" * 5000]
)
def test_what_is_neither_a_folder_nor_a_hub_id_is_refused_unasked(spec: str) -> None:
    with pytest.raises(ProbeError, match="no such folder, and not a hub id; expected a folder"):
        locate_probe(spec)


def test_an_unknown_probe_is_refused_before_the_model_is_opened() -> None:
    with pytest.raises(ProbeError, match="unknown probe 'nowhere'"):
        open_toolbox("no such model either", probe="nowhere")


# Lists and checks


def test_folders_are_searched_two_deep_and_the_shipped_probes_are_always_there(
    tmp_path: Path,
) -> None:
    for place in ("here", "a/b/too", "a/b/c/not"):
        shutil.copytree(PROBE, tmp_path / place)
    (tmp_path / "empty").mkdir()
    shipped, flow, *found = list_probes([tmp_path / "a", tmp_path])
    assert (shipped.probe, flow.probe) == ("sprites", "sprites-flow")
    for one in (shipped, flow):
        assert one.targets[0] == "sprites score" and 5 in one.windows and not one.problem
    assert [row.folder for row in found] == [tmp_path / "a/b/too", tmp_path / "here"]
    assert found[0].model_copy(update={"probe": "sprites", "folder": PROBE}) == shipped
    assert found[0].ranks[0] is not None and 0.5 < found[0].ranks[0] < 1


def test_a_broken_folder_is_listed_with_what_is_wrong(tmp_path: Path) -> None:
    for place in ("bytes", "half", "whole"):
        shutil.copytree(PROBE, tmp_path / place)
    (tmp_path / "half" / CARD).unlink()
    (tmp_path / "bytes" / CARD).write_bytes(bytes(range(256)))
    scrambled, half, whole = list_probes([tmp_path])[len(MODELS) :]
    assert "is not a probe's card" in scrambled.problem and scrambled.model is None
    assert f"{CARD}: No such file" in half.problem
    assert whole.problem == ""


def test_a_folder_to_look_in_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected a folder to look for probes in, got .*nowhere"):
        list_probes([tmp_path / "nowhere"])


def test_a_probe_is_held_against_a_model_and_its_settings() -> None:
    assert verify_probe(PROBE, "sprites") == load_probe(PROBE).card
    with pytest.raises(ProbeError, match="for steps 25 to 50, but the model in use has 20"):
        verify_probe(PROBE, "sprites", Generation(steps=20))
