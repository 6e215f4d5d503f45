"""The page in a browser: a person stops a run, picks, lets go on, and reads the report."""

from __future__ import annotations

import io
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from promptprobe import Budget, Generation, Session
from promptprobe.__main__ import main
from promptprobe.agent.ledger import ChosenLine, Ledger
from promptprobe.agent.run_folder import RunSettings, create
from tests.agent.test_optimize import darkness

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytest.importorskip("gradio")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:gradio.queueing"),
    # gradio does not close the socket with which it tries a port that another server has
    pytest.mark.filterwarnings("ignore:.*'0.0.0.0', 0:pytest.PytestUnraisableExceptionWarning"),
]

SCRIPT = "<script>console.log('run')</script> ${1 + 1} {{value}}"
BRIEF = f"a cat {SCRIPT}"
BEGIN, GO_ON = "Find the best picture", "Let these go on"


@pytest.fixture(scope="module")
def session(ddim_folder: Path) -> Session:
    return Session(ddim_folder, scorer=darkness, generation=Generation(steps=5))


@contextmanager
def page_of(browser: Browser, session: Session, out: Path) -> Iterator[tuple[Page, list[str]]]:
    """The page, and all that it said on its console, asked of the network, or failed with."""
    from promptprobe.agent.doors.ui.live import Live
    from promptprobe.agent.doors.ui.server import served

    context = browser.new_context(viewport={"width": 390, "height": 844})
    page, told = context.new_page(), list[str]()
    page.set_default_timeout(60_000)  # of a machine that does other work too
    with served(Live(session, out)) as address:
        page.on("console", lambda message: told.append(message.text))
        page.on("pageerror", lambda error: told.append(str(error)))
        page.on("request", lambda asked: told.extend(_outside(asked.url, address)))
        page.goto(address)
        yield page, told
        context.close()


def begin_and_stop_at_looks(page: Page) -> None:
    page.get_by_label("Brief").fill(BRIEF)
    page.get_by_label("Stop at each look").check()
    page.get_by_role("button", name=BEGIN).click()


def _outside(url: str, address: str) -> list[str]:
    return [] if url.startswith((address, "data:")) else [url]


def test_a_person_stops_picks_and_lets_go_on(
    browser: Browser, session: Session, tmp_path: Path
) -> None:
    with page_of(browser, session, tmp_path) as (page, told):
        begin_and_stop_at_looks(page)
        cards = page.locator("button.card")
        cards.last.wait_for()
        assert page.evaluate(
            "[...document.querySelectorAll('button.card img')].every(i => i.naturalWidth)"
        )
        planned = page.locator("[aria-pressed=true]")
        for left in range(planned.count(), 0, -1):
            page.get_by_text(f"{left} picked, at most").wait_for()
            planned.first.press("Enter")
        page.get_by_text("0 picked, at most").wait_for()
        cards.last.click()
        page.get_by_text("1 picked, at most").wait_for()
        picked = cards.last.get_attribute("data-pick")
        page.get_by_label("Stop at each look").uncheck()
        page.get_by_role("button", name=GO_ON).click()
        report = page.frame_locator("iframe.report")
        assert report.locator("h1").inner_text() == BRIEF
        assert SCRIPT in page.locator(".best").inner_text()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert told == []
    (run,) = tmp_path.iterdir()
    first = next(line for line in Ledger(run).lines if isinstance(line, ChosenLine))
    assert first.candidates is not None
    assert [candidate.key for candidate in first.candidates] == [picked]


def test_what_cannot_be_done_is_said_and_a_run_can_be_ended(
    browser: Browser, session: Session, tmp_path: Path
) -> None:
    with page_of(browser, session, tmp_path) as (page, told):
        page.get_by_role("button", name=BEGIN).click()
        page.get_by_text("brief: String should have at least 1 character").wait_for()
        begin_and_stop_at_looks(page)
        page.get_by_role("button", name="End the run").click()
        page.get_by_text("Ended by you").wait_for()
        page.get_by_role("button", name=BEGIN).wait_for()
        assert told == []


def test_a_run_goes_on_after_its_server_has_gone(
    browser: Browser, session: Session, tmp_path: Path
) -> None:
    with page_of(browser, session, tmp_path) as (page, told):
        begin_and_stop_at_looks(page)
        page.locator("button.card").last.wait_for()
        prompts = page.locator(".prompts").inner_text()
        best = page.locator(".best .big").inner_text()
    (run,) = tmp_path.iterdir()
    before = Ledger(run)
    with page_of(browser, session, tmp_path) as (page, told):
        page.get_by_text("1 unfinished run").wait_for()
        kept = page.locator(".waiting li")
        assert SCRIPT in kept.inner_text()
        assert f"best {best}, 1 picture" in kept.inner_text()
        page.get_by_label("Stop at each look").check()
        page.get_by_role("button", name="Go on with").press("Enter")
        page.locator("button.card").last.wait_for()
        assert page.locator(".prompts").inner_text() == prompts
        assert page.locator(".best .big").inner_text() == best
        assert not kept.count()
        page.get_by_label("Stop at each look").uncheck()
        page.get_by_role("button", name=GO_ON).click()
        assert page.frame_locator("iframe.report").locator("h1").inner_text() == BRIEF
        page.get_by_text("Done: ").wait_for()
        assert not kept.count()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert told == []
    after = Ledger(run)
    assert after.lines[: len(before.lines)] == before.lines
    paid = [line.key for line in after.stages()]
    assert len(paid) == len(set(paid))


def test_a_run_that_cannot_go_on_here_says_why(
    browser: Browser, session: Session, pndm_folder: Path, tmp_path: Path
) -> None:
    settings = RunSettings(brief=BRIEF, model=str(pndm_folder), scorer="other", budget=Budget())
    other = create(tmp_path, settings)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "run.json").write_text("{")
    with page_of(browser, session, tmp_path) as (page, told):
        page.get_by_text("1 unfinished run").wait_for()
        page.get_by_role("button", name="Go on with").click()
        page.get_by_text(f"this run has the model '{pndm_folder}'").wait_for()
        assert f"promptprobe optimize --resume {other}" in page.locator(".status").inner_text()
        page.get_by_role("button", name=BEGIN).wait_for()
        assert told == []


def test_the_server_is_for_this_machine_and_hands_out_no_files(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from promptprobe.agent.doors.ui.live import Live
    from promptprobe.agent.doors.ui.server import served

    look_up, names = socket.getaddrinfo, set[Any]()

    def noted(host: Any, *given: Any, **named: Any) -> Any:
        names.add(host)
        return look_up(host, *given, **named)

    monkeypatch.setattr(socket, "getaddrinfo", noted)
    monkeypatch.setenv("GRADIO_SHARE", "True")
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "True")
    with served(Live(session, tmp_path)) as address, httpx.Client(base_url=address) as client:
        page = client.get("/")
        assert page.status_code == 200
        assert "default-src 'self'" in page.headers["content-security-policy"]
        for name in ({"Host": "example.org"}, {"Origin": "http://example.org"}, {"Origin": "null"}):
            assert client.get("/", headers=name).status_code == 403
        for path in (__file__, "https://example.org/a.png", tmp_path / "run.json"):
            assert client.get(f"/gradio_api/file={path}").status_code == 404
        assert client.post("/gradio_api/upload", files={"files": b"text"}).status_code == 404
    assert {str(name) for name in names} <= {"127.0.0.1", "localhost"}


class Interrupting(io.StringIO):
    """A stderr at which somebody presses Ctrl-C once the page's address is there."""

    def write(self, text: str) -> int:
        written = super().write(text)
        if "http://" in text:
            signal.raise_signal(signal.SIGINT)
        return written


def test_the_command_serves_until_ctrl_c(
    ddim_folder: Path, clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr", stderr := Interrupting())
    scorer = f"clip:{clip_folder}"
    asked = ["ui", "--model", str(ddim_folder), "--scorer", scorer, "--out", str(tmp_path / "runs")]
    # A test run that was started in the background of a script has it ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert main(asked) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert "http://127.0.0.1:" in stderr.getvalue()
    assert "Traceback" not in stderr.getvalue()
