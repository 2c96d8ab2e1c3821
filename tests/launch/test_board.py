"""What a study at work tells, and how it looks."""

import io
import itertools
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from bakeoff.cli import board as picture
from bakeoff.cli import screen
from bakeoff.launch.board import Board, Row, State, work
from tests.launch import grids

HOSTILE = "<img src=x onerror=alert(1)> [red]=1+1[/] 中文 | $ _\n\x1b[2J" + "x" * 80
ROW = Row(name="arm", seed=0, epochs=10, work=100.0)


def row(state: State, **others: object) -> Row:
    return replace(ROW, state=state, **others)  # type: ignore[arg-type]


def test_nothing_is_known_before_something_runs() -> None:
    assert Board(rows=(row("running"), row("waiting")), side_by_side=2).seconds_left is None


def test_what_has_ended_leaves_no_time() -> None:
    assert Board(rows=(row("finished", progress=1.0, speed=3.0), row("failed")), side_by_side=2).seconds_left == 0


def test_those_that_wait_take_the_speed_of_the_others() -> None:
    running = row("running", progress=0.5, speed=10.0)  # 5 s left
    rows = (running, *[row("waiting", work=200.0)] * 3)  # 20 s each
    assert Board(rows=rows, side_by_side=1).seconds_left == pytest.approx(65)
    assert Board(rows=rows, side_by_side=4).seconds_left == pytest.approx(20)  # the longest cannot be divided


@given(st.lists(st.sampled_from(get_args(State)), max_size=20), st.integers(min_value=1, max_value=8))
def test_more_places_never_take_longer(states: list[State], places: int) -> None:
    rows = tuple(row(state, speed=10.0) for state in states)
    here, more = (Board(rows=rows, side_by_side=n).seconds_left for n in (places, places + 1))
    assert here is not None
    assert more is not None
    assert more <= here


def test_work_follows_network_and_length() -> None:
    small, large = (grids.recipe(model=name) for name in ("resnet_20", "resnet_56"))
    assert work(large) > 2 * work(small)
    assert work(grids.recipe("epochs=20", model="resnet_20")) == pytest.approx(10 * work(small))


def drawn(board: Board, *, height: int) -> list[str]:
    out = Console(file=io.StringIO(), force_terminal=True, width=screen.WIDTH, height=height, color_system=None)
    out.print(picture.picture("study\n[red]", board, height=height))
    return out.file.getvalue().splitlines()  # type: ignore[attr-defined, no-any-return]


@given(st.lists(st.sampled_from(get_args(State)), min_size=1, max_size=60), st.integers(min_value=6, max_value=50))
def test_the_table_fits_the_terminal(states: list[State], height: int) -> None:
    rows = tuple(row(state, name=HOSTILE, val_top1=0.5, images_per_s=12345.0, progress=0.3) for state in states)
    lines = drawn(Board(rows=rows, side_by_side=2), height=height)
    assert len(lines) < height
    assert all(len(line) <= screen.WIDTH for line in lines)
    assert not any("\x1b" in line for line in lines)


def test_those_at_work_come_first_then_failures_then_the_newest() -> None:
    rows = [row("finished", name="a"), row("finished", name="b"), row("failed", name="c"), row("running", name="d")]
    assert [shown.name for shown in picture.chosen([*rows, row("waiting")], room=9)] == ["d", "c", "b", "a"]
    assert [shown.name for shown in picture.chosen(rows, room=1)] == ["d"]


def test_counts_stand_for_what_has_no_room() -> None:
    lines = drawn(Board(rows=(row("running"), *[row("waiting")] * 40), side_by_side=1), height=10)
    assert "40 waiting" in lines[-1]
    assert "0 of 41 runs" in lines[0]


def test_without_a_terminal_each_run_that_ends_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    ended = row("finished", name=HOSTILE, progress=1.0, val_top1=0.5, images_per_s=800.0)
    failed = row("failed", note="model: found 'x\ny'; expected z.")
    boards = [
        Board(rows=rows, side_by_side=1)
        for rows in itertools.accumulate([(row("skipped"),), (ended,), (failed,), (row("running"),)])
    ]
    with picture.show("study") as tell:
        for board in boards:
            tell(board)
    out, err = capsys.readouterr()
    assert out == ""
    first, second = err.splitlines()
    assert first.startswith("2/2  <img src=x onerror=alert(1)> [red]=1+1[/] 中文 | $ _ [2Jxxx")
    assert first.endswith("seed 0: finished, val 50.00%, 800 img/s")
    assert second == "3/3  arm, seed 0: failed, model: found 'x y'; expected z."


@pytest.mark.parametrize(
    ("seconds", "text"), [(9, "9 s"), (300, "5 min"), (3 * 3600, "3.0 h"), (5 * 86400, "5.0 days")]
)
def test_durations_as_people_say_them(seconds: float, text: str) -> None:
    assert screen.duration(seconds) == text
