"""A session: opened once, shared by threads and tasks, with the results of calls one by one."""

from __future__ import annotations

import asyncio
import inspect
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from promptprobe import (
    Budget,
    Candidate,
    Generation,
    OptimizationResult,
    Session,
    aoptimize_prompt,
    optimize_prompt,
    probe_prompts,
)
from promptprobe.agent import run_folder
from promptprobe.agent.events import Event, RunStarted
from tests.images import brightness, read_exact

STEPS = Generation(steps=5)
TINY = Budget(renders=3, prompts=2)
BRIEFS = [f"a {colour} {thing}" for colour in ("red", "blue") for thing in ("cat", "car")] * 2
PROMPTS = ["a photo", "a drawing"]


@pytest.fixture(scope="module")
def session(ddim_folder: Path) -> Session:
    return Session(ddim_folder, scorer=brightness, generation=STEPS)


def options(folder: Path, number: int) -> dict[str, Any]:
    """Of the n-th of several runs."""
    return {"prompts": PROMPTS, "budget": TINY, "seed": number, "out": folder / str(number)}


def test_a_judge_of_no_known_name_is_refused_before_the_model_is_opened() -> None:
    with pytest.raises(ValueError, match=r"unknown scorer 'clipp:x' \(did you mean 'clip'"):
        Session("no/such/model", scorer="clipp:x")


def outcome(result: OptimizationResult) -> list[Any]:
    """All that a run found, without its folder and its times."""
    rows = []
    for trial in result.trials:
        picture = trial.image.read_bytes() if trial.image else None
        rows.append((trial.candidate, trial.prediction, trial.score, picture))
    return [*rows, result.spent.nfe, result.stop_reason, result.warnings]


@pytest.fixture(scope="module")
def alone(session: Session, tmp_path_factory: pytest.TempPathFactory) -> list[list[Any]]:
    """The runs, one by one."""
    folder = tmp_path_factory.mktemp("alone")
    return [
        outcome(session.optimize(brief, **options(folder, number)))
        for number, brief in enumerate(BRIEFS)
    ]


def test_eight_tasks_give_the_results_of_eight_runs_one_by_one(
    session: Session, alone: list[list[Any]], tmp_path: Path
) -> None:
    async def together() -> list[OptimizationResult]:
        runs = (session.aoptimize(brief, **options(tmp_path, n)) for n, brief in enumerate(BRIEFS))
        return await asyncio.gather(*runs)

    assert [outcome(result) for result in asyncio.run(together())] == alone


def test_eight_threads_give_the_results_of_eight_runs_one_by_one(
    ddim_folder: Path, alone: list[list[Any]], tmp_path: Path
) -> None:
    """Of `optimize_prompt`, which opens what it needs itself."""

    def run(number: int) -> OptimizationResult:
        return optimize_prompt(
            BRIEFS[number],
            model=ddim_folder,
            scorer=brightness,
            generation=STEPS,
            **options(tmp_path, number),
        )

    with ThreadPoolExecutor(len(BRIEFS)) as pool:
        assert [outcome(result) for result in pool.map(run, range(len(BRIEFS)))] == alone


def test_a_second_run_starts_within_50_ms(session: Session, tmp_path: Path) -> None:
    def started() -> float:
        seen: list[float] = []

        def watch(event: Event) -> None:
            if isinstance(event, RunStarted):
                seen.append(time.perf_counter())

        began = time.perf_counter()
        budget = Budget(renders=1)
        session.optimize("a red cat", rewrite="off", budget=budget, out=tmp_path, on_event=watch)
        return seen[0] - began

    assert min(started() for _ in range(3)) < 0.05


def test_the_verbs_probe_render_and_score(session: Session, tmp_path: Path) -> None:
    reply = session.probe("a red cat", ["a red cat", "a cat"], seeds=(1, 2))
    assert len(reply.candidates) == 4
    assert probe_prompts(
        "a red cat", ["a red cat", "a cat"], seeds=(1, 2), model=session.model, scorer=brightness,
        generation=STEPS,
    ).candidates == reply.candidates  # fmt: skip
    best = reply.candidates[0]
    (drawn,) = session.render([Candidate(prompt=best.prompt, seed=best.seed)], tmp_path)
    assert drawn.image is not None
    (score,) = session.score("a red cat", [drawn.image])
    assert score.value is not None
    assert asyncio.run(session.ascore("a red cat", [drawn.image])) == [score]


def test_pictures_of_other_settings_do_not_take_the_place_of_earlier_ones(
    session: Session, tmp_path: Path
) -> None:
    candidates = [Candidate(prompt="a red cat", seed=1)]
    (first,) = session.render(candidates, tmp_path)
    (other,) = session.render(candidates, tmp_path, generation=Generation(steps=2))
    assert first.image is not None and other.image is not None
    for drawn, steps in ((first.image, 5), (other.image, 2)):
        assert read_exact(drawn)[1].steps == steps
    assert session.render(candidates, tmp_path) == [first]


@pytest.mark.parametrize("images", ["cat.png", [Image.new("RGB", (8, 8))]])
def test_what_is_no_list_of_picture_files_is_refused(session: Session, images: Any) -> None:
    with pytest.raises(ValueError, match="images: expected a list of picture files, got"):
        session.score("a red cat", images)


def test_a_call_may_ask_for_other_settings_of_the_same_model(session: Session) -> None:
    reply = session.probe("a red cat", seeds=(1,), generation=Generation(steps=10))
    assert (reply.steps, reply.of) == (2, 10)


def test_further_arguments_are_written_to_the_run_and_into_its_pictures(
    session: Session, tmp_path: Path
) -> None:
    asked = Generation.model_validate({"steps": 5, "extra": {"guidance_rescale": 0.7}})
    one = Budget(renders=1)
    result = session.optimize(
        "a red cat", generation=asked, rewrite="off", budget=one, out=tmp_path
    )
    assert run_folder.read(result.run_dir).generation.extra == asked.extra
    assert result.best.image is not None
    assert read_exact(result.best.image) == (result.best.candidate, result.generation)
    with pytest.raises(ValueError, match="does not take clip_skip here"):
        session.probe("a cat", generation=Generation.model_validate({"extra": {"clip_skip": 1}}))


def test_a_session_goes_on_with_its_own_runs_only(
    session: Session, pndm_folder: Path, tmp_path: Path
) -> None:
    result = session.optimize(BRIEFS[0], **options(tmp_path, 0))
    assert session.optimize(resume=result.run_dir) == result
    other = Session(pndm_folder, scorer=brightness, generation=STEPS)
    with pytest.raises(ValueError, match=r"this run has the model .*ddim.* but this session"):
        other.optimize(resume=result.run_dir)
    with pytest.raises(ValueError, match=r"its seed is 0, got 7\. Leave that out, or start"):
        session.optimize(resume=result.run_dir, seed=7)
    with pytest.raises(ValueError, match="its steps is 5, got 6"):
        session.optimize(resume=result.run_dir, generation=Generation(steps=6))
    assert session.optimize(resume=result.run_dir, **options(tmp_path, 0)) == result


def test_a_session_that_cannot_open_says_so_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no model_index\.json"):
        Session(tmp_path)
    with pytest.raises(ValueError, match="scorer must be a name"):
        Session("sprites", scorer=5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"scorer must be a name .* got PosixPath\('judge.py'\)"):
        Session("sprites", scorer=Path("judge.py"))  # type: ignore[arg-type]


@pytest.mark.parametrize("function", [optimize_prompt, Session.optimize, Session.aprobe])
def test_parameters_are_there_for_help_and_completion(function: Any) -> None:
    kinds = {one.kind for one in inspect.signature(function).parameters.values()}
    assert not kinds & {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}


def test_a_misspelt_parameter_is_an_error_that_names_it() -> None:
    with pytest.raises(TypeError, match="'prompt'"):
        optimize_prompt("a cat", prompt=["a dog"])  # type: ignore[call-arg]
    assert inspect.signature(optimize_prompt) == inspect.signature(aoptimize_prompt)


def test_a_result_prints_as_five_lines_and_has_drawn_its_contact_sheet(
    session: Session, tmp_path: Path
) -> None:
    result = session.optimize("a red\ncat \x9b31m", rewrite="off", budget=TINY, out=tmp_path)
    lines = str(result).splitlines()
    assert [line.split()[0] for line in lines] == ["brief", "prompt", "best", "cost", "picture"]
    assert str(result).replace("\n", "").isprintable()
    assert result.contact_sheet.is_file()


def test_a_judge_whose_file_was_edited_is_read_anew_by_the_next_call(
    ddim_folder: Path, tmp_path: Path
) -> None:
    judge, picture = tmp_path / "edited.py", tmp_path / "picture.png"
    Image.new("RGB", (8, 8)).save(picture)
    code = "def score(brief, image):\n    return {}\n"
    judge.write_text(code.format(0.25))
    session = Session(ddim_folder, scorer=f"python:{judge}:score", generation=STEPS)
    assert session.score("a cat", [picture])[0].value == 0.25
    judge.write_text(code.format(0.125))
    assert session.score("a cat", [picture])[0].value == 0.125
    judge.write_text("def score(")
    with pytest.raises(ValueError, match=r"edited\.py cannot be imported: SyntaxError"):
        session.score("a cat", [picture])
