"""The report tells all of a run, needs nothing but itself, and text of others stays text."""

from __future__ import annotations

import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from promptprobe.__main__ import main
from promptprobe.agent.ledger import Ledger, RenderedLine
from promptprobe.agent.report import plots, story
from promptprobe.agent.report.comparison import save_comparison
from promptprobe.agent.report.page import report_of, run_page
from promptprobe.agent.result import read_result
from promptprobe.agent.rewrite.differences import changes
from promptprobe.agent.run_folder import read
from promptprobe.tools.pictures.attention import save_attention
from promptprobe.tools.protocol import Rendered
from promptprobe.tools.records import CallArguments, Generation
from tests.agent.report.conftest import BRIEF, HOSTILE, SCRIPT, hostile_run
from tests.tools.pictures.test_heatmaps import planted


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data

    @property
    def addresses(self) -> set[str]:
        return {value for name, value in self.attributes if name in ("src", "href", "action")}


def test_the_report_asks_nothing_of_the_network_and_holds_no_script(tmp_path: Path) -> None:
    page = Page(run_page(hostile_run(tmp_path)))
    assert (
        page.tags["script"]
        == page.tags["iframe"]
        == page.tags["form"]
        == page.tags["link"] - 1
        == 0
    )
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert not [name for name, _ in page.attributes if name.startswith("on") or name == "style"]


def test_text_of_others_stays_text_wherever_the_report_shows_it(tmp_path: Path) -> None:
    page = Page(run_page(hostile_run(tmp_path)))
    assert page.text.count(SCRIPT) > 5
    assert "onerror=" in page.text
    assert "{{ 7 * 7 }}" in page.text
    assert page.tags["style"] == 1
    assert not {"\u202e", "\x1b"} & set(page.text)


def test_the_policy_admits_no_script_and_only_the_style_of_the_page(tmp_path: Path) -> None:
    page = run_page(hostile_run(tmp_path))
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy[1]


def test_every_candidate_is_there_with_its_fate_and_every_prompt_with_its_changes(
    tmp_path: Path,
) -> None:
    result = hostile_run(tmp_path)
    page = Page(run_page(result))
    assert page.text.count("What became of it") == len(result.trials)
    assert page.text.count("Rendered and scored.") == sum(
        t.image is not None for t in result.trials
    )
    dropped = len(result.trials) - sum(t.image is not None for t in result.trials)
    assert (
        len(re.findall(r"Dropped in round \d after \d+ of its steps: predicted", page.text))
        == dropped
    )
    assert page.tags["del"] > 1 and page.tags["ins"] > 1
    assert "refused" in page.text and "Warnings" in page.text


def test_a_picture_that_is_gone_or_outside_of_the_run_is_not_shown(tmp_path: Path) -> None:
    result = hostile_run(tmp_path / "out")
    elsewhere = tmp_path / "private.png"
    Image.new("RGB", (3, 3), "red").save(elsewhere)
    candidate = result.best.candidate
    Ledger(result.run_dir).write(
        [RenderedLine(candidate=candidate, rendered=Rendered(image=elsewhere, nfe=0))]
    )
    page = run_page(read_result(result.run_dir))
    assert "cannot be read" in page


def test_heat_maps_that_a_run_has_kept_are_shown_with_each_word_s_chance(tmp_path: Path) -> None:
    result = hostile_run(tmp_path)
    assert "Where the words look" not in Page(run_page(result)).text
    for trial in (result.initial, result.best):
        assert trial.preview is not None
        save_attention(trial.preview.parent, [trial.preview.stem], planted(("cat",), [(3, 4)]))
    page = Page(run_page(result))
    assert "Where the words look" in page.text
    shown = [name for name, _ in page.attributes if name == "alt"]
    assert ("alt", "where cat looks") in page.attributes and len(shown) > 4
    assert "light is 32% of a place's attention" in page.text


def test_the_command_repeats_the_run_and_quotes_what_a_shell_would_read(tmp_path: Path) -> None:
    result = hostile_run(tmp_path, seed=7)
    told = story.command(read(result.run_dir))
    assert told is not None
    assert f"'{BRIEF.replace(chr(39), chr(39) + chr(34) + chr(39) + chr(34) + chr(39))}'" in told
    assert told.count("--prompt") == len(HOSTILE)
    assert "--seed 7" in told and "--budget 4" in told and "--guidance 3.0" in told


def test_the_command_repeats_what_a_shell_says_more_than_once_or_without_a_value(
    tmp_path: Path,
) -> None:
    settings = read(hostile_run(tmp_path).run_dir)
    generation = Generation(
        lora=("a:0.5", "b"), offload=True, extra=CallArguments(clip_skip=2, eta=0.5)
    )
    told = story.command(settings.model_copy(update={"generation": generation}))
    assert told is not None
    assert told.endswith("--lora a:0.5 --lora b --offload --extra clip_skip=2 --extra eta=0.5")


def test_no_command_repeats_a_run_of_python_objects(tmp_path: Path) -> None:
    result = hostile_run(tmp_path, scorer="callable mine")
    assert story.command(read(result.run_dir)) is None
    assert "its scorer was a Python object" in run_page(result)


def test_changes_are_words_and_both_texts_can_be_read_from_them() -> None:
    before, after = "A scarlet kitty, 2 cars", "a red cat next to 2 cars"
    found = changes(before, after)
    assert [c.text for c in found if c.kind == "dropped"] == ["scarlet kitty,"]
    assert [c.text for c in found if c.kind == "added"] == ["red cat next to"]
    assert "".join(c.text for c in found if c.kind != "dropped") == after
    assert [c.text for c in changes("一只红猫", "一只蓝猫") if c.kind == "added"] == ["蓝"]


def test_the_curve_never_falls_and_ends_at_the_best_score(tmp_path: Path) -> None:
    result = hostile_run(tmp_path)
    curve = story.spend_curve(Ledger(result.run_dir))
    assert [point.best for point in curve] == sorted(point.best for point in curve)
    assert curve[-1].best == result.best.value
    assert curve[-1].nfe == result.spent.nfe


@pytest.mark.parametrize("values", [[], [0.5], [1e-9, 1e9], [-3.0, float("nan")]])
def test_a_scale_has_round_ticks_within_the_plot_whatever_the_values(values: list[float]) -> None:
    scale = plots.across(values)
    assert 2 <= len(scale.ticks) <= 2 * plots.TICKS
    assert all(plots.LEFT <= at <= plots.WIDTH - plots.RIGHT for at, _ in scale.ticks)
    assert len({label for _, label in scale.ticks}) == len(scale.ticks)


# The commands


def test_the_command_writes_the_report_again_and_prints_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = hostile_run(tmp_path)
    assert main(["report", str(result.run_dir), "--json"]) == 0
    path = Path(json.loads(capsys.readouterr().out)["report"])
    assert path == result.run_dir / "report.html"
    assert path.read_text() == run_page(result)


def test_several_runs_are_compared_on_one_page(tmp_path: Path) -> None:
    runs = [hostile_run(tmp_path / str(n), seed=n).run_dir for n in range(2)]
    out = tmp_path / "both.html"
    assert main(["report", *map(str, runs), "--out", str(out)]) == 0
    page = Page(out.read_text())
    assert SCRIPT in page.text
    assert page.tags["script"] == 0
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert page.tags["path"] == 2
    assert out.read_text() == save_comparison(tmp_path / "again.html", runs).read_text()


def test_runs_are_listed_newest_first_and_a_damaged_one_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    run_dir = hostile_run(tmp_path).run_dir
    damaged = tmp_path / "29990101-000000-broken"
    damaged.mkdir()
    (damaged / "run.json").write_text("{}")
    assert main(["runs", "list", str(tmp_path), "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)["runs"]
    assert "damaged" in first["problem"] and first["run_dir"] == str(damaged)
    assert second["run_dir"] == str(run_dir) and second["best"] >= second["initial"]
    assert main(["runs", "list", str(tmp_path)]) == 0
    listed = capsys.readouterr().out
    assert "unreadable" in listed
    assert run_dir.name in listed
    assert "a cat next to a" in listed


def test_a_run_is_shown_as_at_its_end_and_runs_are_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = hostile_run(tmp_path)
    assert main(["runs", "show", str(result.run_dir), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == result.summary()
    assert main(["runs", "compare", str(result.run_dir), str(result.run_dir)]) == 0
    assert capsys.readouterr().out.count(result.run_dir.name) == 2


def test_a_folder_that_is_no_run_is_a_usage_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert "expected the folder of a run" in capsys.readouterr().err
    with pytest.raises(ValueError, match="expected the folder of a run"):
        report_of(tmp_path)
