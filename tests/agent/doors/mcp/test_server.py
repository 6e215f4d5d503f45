"""The MCP server as a client of the official SDK meets it in this process: jobs, queue, answers."""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, types
from mcp.shared.exceptions import MCPError
from PIL import Image

from promptprobe.agent.doors.mcp.desk import AT_ONCE, WAITING, Desk
from promptprobe.agent.doors.mcp.files import MAX_THUMBNAIL, Files
from promptprobe.agent.doors.mcp.messages import MOST_CHARACTERS, Models, Optimization, Probes
from promptprobe.agent.doors.mcp.server import build_server
from promptprobe.agent.doors.tool_calls.owner import Owner
from promptprobe.tools.models.model import open_model
from promptprobe.tools.records import Generation

ASKED: dict[str, Any] = {
    "brief": "a red cat, a blue car",
    "prompts": ["a blue car and a red cat"],
    "generation": {"steps": 5},
    "budget": {"renders": 3, "prompts": 2, "seeds": 2},
}
TOOLS = [
    "optimize_prompt",
    "get_optimization",
    "cancel_optimization",
    "list_runs",
    "probe_prompts",
    "render_image",
    "score_image",
    "list_models",
]


@pytest.fixture(scope="module")
def owner(ddim_folder: Path, clip_folder: Path) -> Owner:
    """Whoever serves a tiny random model."""
    return Owner(model=str(ddim_folder), scorer=f"clip:{clip_folder}", judge=("critic:sprites",))


def with_client(desk: Desk, talk: Callable[[Client], Awaitable[Any]]) -> Any:
    """What a client in this process has to say to a new server of the desk."""

    async def connected() -> Any:
        async with Client(build_server(desk)) as client:
            try:
                return await talk(client)
            finally:
                await desk.jobs.close()

    return asyncio.run(connected())


def call(folder: Path, owner: Owner, name: str, arguments: dict[str, Any]) -> types.CallToolResult:
    return with_client(Desk(folder, owner), lambda client: client.call_tool(name, arguments))


def text_of(result: types.CallToolResult) -> str:
    assert isinstance(result.content[0], types.TextContent)
    return result.content[0].text


def test_an_optimization_tells_its_progress_and_answers_in_few_tokens(
    owner: Owner, tmp_path: Path
) -> None:
    told: list[tuple[float, float | None, str | None]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, total, message))

    async def talk(client: Client) -> tuple[types.CallToolResult, list[bytes]]:
        assert [tool.name for tool in (await client.list_tools()).tools] == TOOLS
        result = await client.call_tool(
            "optimize_prompt", {**ASKED, "wait_seconds": 600}, progress_callback=note
        )
        links = [part for part in result.content if isinstance(part, types.ResourceLink)]
        found = [(await client.read_resource(link.uri)).contents[0] for link in links]
        return result, [base64.b64decode(c.blob) for c in found if hasattr(c, "blob")]

    result, blobs = with_client(Desk(tmp_path, owner), talk)
    assert all(earlier < later for (earlier, *_), (later, *_) in pairwise(told))
    assert any("looked at" in (message or "") for *_, message in told)
    reply = Optimization.model_validate(result.structured_content)
    assert reply.status == "done"
    assert reply.best is not None
    assert reply.best.score is not None
    assert list(reply.best.judged) == ["critic:sprites"]
    assert len(text_of(result)) <= MOST_CHARACTERS
    (small,) = [part for part in result.content if isinstance(part, types.ImageContent)]
    assert len(small.data) <= MAX_THUMBNAIL
    assert sum(blob.startswith(b"\x89PNG") for blob in blobs) == 3
    assert str(tmp_path) not in text_of(result)


def test_a_cut_call_loses_nothing_and_goes_on_after_a_restart(owner: Owner, tmp_path: Path) -> None:
    async def cut(client: Client) -> None:
        started = asyncio.Event()

        async def note(progress: float, total: float | None, message: str | None) -> None:
            if message and message.startswith("looked at"):
                started.set()

        arguments = {**ASKED, "wait_seconds": 600}
        first = asyncio.create_task(
            client.call_tool("optimize_prompt", arguments, progress_callback=note)
        )
        await started.wait()
        first.cancel()
        await asyncio.wait([first])

    with_client(Desk(tmp_path, owner), cut)
    listed = call(tmp_path, owner, "list_runs", {}).structured_content
    assert listed is not None
    (row,) = listed["runs"]
    assert row["status"] == "unfinished"
    asked = {"job_id": row["job_id"], "wait_seconds": 600}
    reply = Optimization.model_validate(
        call(tmp_path, owner, "get_optimization", asked).structured_content
    )
    assert reply.status == "done"
    again = call(tmp_path, owner, "optimize_prompt", {**ASKED, "wait_seconds": 0})
    assert again.structured_content == reply.model_dump(mode="json")
    assert len(list(tmp_path.glob("*/run.json"))) == 1


def test_a_job_that_reached_its_target_asks_for_no_better_prompts(
    owner: Owner, tmp_path: Path
) -> None:
    asked = {**ASKED, "wait_seconds": 600}
    for target, said in ((-100, "nothing is left to do"), (100, "with better prompts")):
        found = call(tmp_path, owner, "optimize_prompt", {**asked, "target": target})
        assert said in Optimization.model_validate(found.structured_content).message


def test_past_its_wait_a_call_gives_a_job_that_works_on_and_can_be_cancelled(
    owner: Owner, tmp_path: Path
) -> None:
    async def talk(client: Client) -> list[Any]:
        heavy = {**ASKED, "budget": "heavy", "wait_seconds": 0}
        began = (await client.call_tool("optimize_prompt", heavy)).structured_content
        assert began is not None
        job = {"job_id": began["job_id"]}
        ended = await client.call_tool("cancel_optimization", job)
        later = await client.call_tool("get_optimization", job)
        return [began, ended.structured_content, later.structured_content]

    states = [found["status"] for found in with_client(Desk(tmp_path, owner), talk)]
    assert states == ["working", "cancelled", "cancelled"]


def test_200_calls_at_once_get_a_result_or_hear_that_the_server_is_busy(
    owner: Owner, tmp_path: Path
) -> None:
    asked = {"brief": "a cat", "prompts": ["a cat"], "seeds": [1], "generation": {"steps": 2}}

    async def talk(client: Client) -> list[types.CallToolResult]:
        return await asyncio.gather(*(client.call_tool("probe_prompts", asked) for _ in range(200)))

    results = with_client(Desk(tmp_path, owner), talk)
    said = Counter("busy" if result.is_error else "done" for result in results)
    assert all(text_of(result).startswith("busy") for result in results if result.is_error)
    assert said["done"] >= AT_ONCE + WAITING
    assert said["busy"] > 0


def test_previews_are_compared_drawn_and_scored_on_request(owner: Owner, tmp_path: Path) -> None:
    async def talk(client: Client) -> list[types.CallToolResult]:
        asked = {"brief": "a cat", "prompts": ["a cat"], "generation": {"steps": 5}}
        looked = await client.call_tool("probe_prompts", {**asked, "heatmaps": True})
        drawn = await client.call_tool(
            "render_image", {"prompt": "a cat", "generation": {"steps": 2}}
        )
        assert drawn.structured_content is not None
        image = drawn.structured_content["image"]
        scored = await client.call_tool("score_image", {"brief": "a cat", "image": image})
        return [looked, drawn, scored, await client.call_tool("list_models", {})]

    looked, _, scored, models = with_client(Desk(tmp_path, owner), talk)
    reply = Probes.model_validate(looked.structured_content)
    assert reply.looked_at == len(reply.candidates) == 4
    assert looked.content[1].name == "heat maps"
    assert scored.structured_content["score"]["value"] is not None
    (model,) = Models.model_validate(models.structured_content).models
    assert model.default


def test_a_call_that_says_nothing_of_pictures_gets_the_owners(owner: Owner, tmp_path: Path) -> None:
    made = Generation(steps=3, height=128, width=512)  # more pixels than a call may ask for
    own = owner.model_copy(update={"generation": made})

    async def talk(client: Client) -> list[Any]:
        shown = next(t for t in (await client.list_tools()).tools if t.name == "render_image")
        schema = shown.input_schema["properties"]["generation"]
        drawn = await client.call_tool("render_image", {"prompt": "a cat"})
        wider = {"prompt": "a cat", "generation": {"width": 1024}}
        return [schema, drawn, await client.call_tool("render_image", wider)]

    schema, drawn, refused = with_client(Desk(tmp_path, own), talk)
    told = {name: schema["properties"][name]["default"] for name in schema["default"]}
    assert schema["default"] == told == made.model_dump(include=set(told))
    with Image.open(Files(tmp_path).located(drawn.structured_content["image"])) as picture:
        assert picture.size == (made.width, made.height)
        assert "Steps: 3," in picture.info["parameters"]
    assert "1024 x 128 pixels are too many" in text_of(refused)


@pytest.mark.parametrize(
    ("tool", "fields", "said"),
    [
        ("paint", {}, "Unknown tool: paint"),
        ("optimize_prompt", {}, "brief: Field required"),
        ("optimize_prompt", {"brief": "a", "out": "/etc"}, "out: unknown field"),
        ("optimize_prompt", {"brief": "a", "model": "sprites"}, "model: unknown field"),
        ("optimize_prompt", {"brief": "x" * 10_000_000}, "of 10,000,000 characters"),
        ("optimize_prompt", {"brief": "a", "wait_seconds": 1e9}, "wait_seconds: Input should be"),
        ("get_optimization", {"job_id": "../../etc/passwd"}, "there is no job"),
        ("probe_prompts", {"brief": "a", "prompts": []}, "prompts: List should have at least 1"),
        ("score_image", {"brief": "a", "image": "/etc/passwd"}, "expected the link of a result"),
        (
            "score_image",
            {"brief": "a", "image": "promptprobe://png/../a.png"},
            "no png of a result",
        ),
        (
            "probe_prompts",
            {"brief": "a", "prompts": ["a"], "generation": {"height": 8192, "width": 8192}},
            "8192 x 8192 pixels are too many",
        ),
    ],
)
def test_a_bad_call_is_answered_in_one_clear_line(
    owner: Owner, tmp_path: Path, tool: str, fields: dict[str, Any], said: str
) -> None:
    result = call(tmp_path, owner, tool, fields)
    assert result.is_error
    assert said in text_of(result)
    assert len(text_of(result)) < 500
    assert list(tmp_path.glob("*/*")) == []


@pytest.mark.parametrize("words", ["", "CUDA out of memory. Tried to allocate 9 GiB."])
def test_a_call_that_runs_out_of_memory_is_answered_and_the_next_is_served(
    owner: Owner, tmp_path: Path, words: str
) -> None:
    model: Any = open_model(owner.model).family  # the one that the server shares
    drawing = {"prompt": "a red cat", "generation": {"steps": 2}}

    def full(module: Any, args: Any) -> None:
        raise MemoryError(words)

    async def talk(client: Client) -> list[types.CallToolResult]:
        unhook = model.pipeline.unet.register_forward_pre_hook(full)
        failed = [
            await client.call_tool("render_image", drawing),
            await client.call_tool("optimize_prompt", {**ASKED, "wait_seconds": 600}),
        ]
        unhook.remove()
        return [*failed, await client.call_tool("render_image", drawing)]

    *failed, served = with_client(Desk(tmp_path, owner), talk)
    for answer in failed:
        assert answer.is_error
        assert "one image alone does not fit into memory: use a smaller" in text_of(answer)
    assert not served.is_error


def test_an_agent_may_name_the_models_that_the_owner_allows(owner: Owner, tmp_path: Path) -> None:
    open_owner = owner.model_copy(update={"allow_model": ("sprites",)})

    async def talk(client: Client) -> Any:
        return (await client.list_tools()).tools[0].input_schema["properties"]["model"]["enum"]

    assert with_client(Desk(tmp_path, open_owner), talk) == [owner.model, "sprites"]


def test_only_files_of_results_can_be_read(owner: Owner, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "run").mkdir(parents=True)
    (tmp_path / "secret.png").write_text("secret")
    (out / "run" / "run.json").write_text("{}")
    (out / "run" / "link.png").symlink_to(tmp_path / "secret.png")
    (out / "run" / "fine.png").write_text("fine")
    files = Files(out)
    assert files.located(files.uri(out / "run" / "fine.png")).read_text() == "fine"
    paths = ("../secret.png", "run/link.png", f"{tmp_path}/secret.png", "run/../run/fine.png", "\0")
    for path in paths:
        with pytest.raises(ValueError, match="no png of a result"):
            files.confined(path, "png")

    async def talk(client: Client) -> None:
        for uri in ("png/..%2Fsecret.png", "png/run/link.png", "png/run/run.json", "json/run/run"):
            with pytest.raises(MCPError):
                await client.read_resource(f"promptprobe://{uri}")
        with pytest.raises(MCPError):
            await client.read_resource((tmp_path / "secret.png").as_uri())

    with_client(Desk(out, owner), talk)
