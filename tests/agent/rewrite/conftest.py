"""An LLM for tests: a real local server, named by the environment as a user would."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.agent.llm_server import KEY, Server, running


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with running() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{server.address}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        yield server
