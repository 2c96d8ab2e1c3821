"""What driver and workers say to each other comes over whole."""

import json
import select
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from bakeoff import errors
from bakeoff.errors import BakeoffError
from bakeoff.launch.jobs import Job, claim, error_line, restored_error
from bakeoff.results import store
from tests.launch import grids

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, BakeoffError)]


def test_a_job_comes_over_with_the_same_recipe() -> None:
    recipe = grids.recipe("model.width=4", "lr=0.1234567890123456", "schedule=multistep", "mixup=0.2")
    job = Job(recipe=recipe, folder=Path("log s/ü\n/x"), test=True, command=("bakeoff", "study\n"), plugin=grids.TINY)
    text = job.to_line()
    assert text.count(b"\n") == 1
    again = Job.from_line(text)
    assert again == job
    assert again.recipe.digest == recipe.digest


@given(st.sampled_from(KINDS), st.lists(st.text(), min_size=4, max_size=4))
def test_an_error_comes_over_as_itself(kind: type[BakeoffError], fields: list[str]) -> None:
    if kind is errors.Interrupted:
        return
    where, found, expected, hint = fields
    error = kind(where, found=found, expected=expected, hint=hint)
    told = json.loads(error_line("a", error))
    again = restored_error(told["error"], code=told["code"])
    assert (type(again), str(again), again.exit_code) == (kind, str(error), error.exit_code)


@given(st.text(min_size=1, max_size=9), st.integers(min_value=1, max_value=1000))
def test_however_long_it_is_written_in_one_piece(piece: str, times: int) -> None:
    """Above PIPE_BUF bytes the messages of two processes could mix."""
    text = piece * times
    message = error_line("seed2147483647-0123456789ab", BakeoffError(text, found=text, expected=text, hint=text))
    assert len(message) <= select.PIPE_BUF
    assert json.loads(message)["error"]["found"] in text


def test_a_claim_is_beside_its_run_and_is_no_run(tmp_path: Path) -> None:
    recipe = grids.recipe()
    run = store.create(recipe, store.folder_of(recipe, root=tmp_path))
    claim(run.folder).touch()
    assert claim(run.folder).parent == run.folder.parent
    assert store.list_runs(tmp_path) == [run]
