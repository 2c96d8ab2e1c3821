"""The grid: every run of a study that is missing or unfinished is trained, several at once, and test is read once.

What is done is read from the runs' folders, never remembered: a driver that dies leaves nothing to repair, and the
next one goes on. What another process is at work on is waited for.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bakeoff.errors import BakeoffError, Interrupted
from bakeoff.launch.board import Board, Row, State, work
from bakeoff.launch.entry import Entry
from bakeoff.launch.executors import HERE, Placement
from bakeoff.launch.jobs import Ended, Executor, Job
from bakeoff.recipe import Recipe
from bakeoff.results import store, studies
from bakeoff.results.comparison import choose, is_decided
from bakeoff.study import Arm, Study
from bakeoff.training.signals import listen

_log = logging.getLogger(__name__)

Tell = Callable[[Board], None]
PULSE_S = 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class End:
    """How one run of the study ended.

    Args:
        name: of its arms and trials, or of the teacher that it is.
        arms: names of the arms that it belongs to.
        state: finished, skipped (it was finished before), failed or diverged.
        error: why it failed or diverged.
    """

    name: str
    recipe: Recipe
    folder: Path
    arms: tuple[str, ...]
    state: State
    error: BakeoffError | None = None

    @property
    def exit_code(self) -> int:
        """What `bakeoff train` would have exited with."""
        return self.error.exit_code if self.error else 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How all runs of a study ended, in the study's order."""

    runs: tuple[End, ...]

    @property
    def failed(self) -> list[End]:
        """Those to be tried again once the reason is mended."""
        return [end for end in self.runs if end.state == "failed"]

    @property
    def diverged(self) -> list[End]:
        """Those that would diverge again."""
        return [end for end in self.runs if end.state == "diverged"]


def run(
    study: Study,
    *,
    root: Path,
    placement: Placement = HERE,
    tell: Tell = lambda _: None,
    command: Sequence[str] = (),
    plugin: str | None = None,
) -> Outcome:
    """Take every run of a study to its end, several side by side. Errors of single runs are in the outcome.

    Args:
        study: expanded.
        root: the folder of all runs.
        placement: where its runs are made; default: on this machine, as many at once as fill it.
        tell: receives how far all is, a few times a second.
        command: as typed, for the runs' records.
        plugin: the `package.module:function` that may be imported as a run's model.

    Raises:
        Interrupted: a signal asked to stop; all runs have saved, or were killed where they did not in time.
        StorageError: the study's folder cannot be written.
    """
    entries = _entries(study, root=root)
    undecided, by_arm = list(study.arms), _by_arm(entries)
    _decide(study, undecided, by_arm)
    recipes = [entry.recipe for entry in entries.values() if entry.is_open]
    log = studies.folder(study, root=root) / "workers.log"

    def show() -> None:
        tell(Board(rows=tuple(entry.row for entry in entries.values()), side_by_side=workers.side_by_side))

    with placement.open(recipes, root=root, log=log) as workers, listen() as stop:
        while any(entry.is_open for entry in entries.values()):
            if stop:
                _log.warning("Stopping %s: runs at work save their state.", study.name)
                hint = _after_stop(killed=workers.stop())
                raise Interrupted(stop.signal_number, where=f"study {study.name}", hint=hint)
            _fill(workers, entries, command=tuple(command), plugin=plugin)
            show()
            for event in workers.wait(PULSE_S):
                entry = entries[event.job.recipe.digest]
                entry.end(event) if isinstance(event, Ended) else entry.tell(event)
            _decide(study, undecided, by_arm)
        show()
    ends = (
        End(name=e.row.name, recipe=e.recipe, folder=e.folder, arms=e.arms, state=e.row.state, error=e.error)
        for e in entries.values()
    )
    return Outcome(runs=tuple(ends))


def _entries(study: Study, *, root: Path) -> dict[str, Entry]:
    """Return every run by the digest of its recipe, seeds in turn, as its folder says that it stands."""
    names: dict[str, list[tuple[str, str]]] = {}
    for arm in study.arms:
        for trial, _, recipe in study.runs(arm):
            names.setdefault(recipe.digest, []).append((arm.name, trial.name))
    teachers: dict[str, list[str]] = {}
    for name, recipe in study.teachers.items():
        teachers.setdefault(recipe.digest, []).append(name)
    entries: dict[str, Entry] = {}
    for digest, recipe in study.recipes().items():
        of_arms = [f"{arm}, {trial}" if trial else arm for arm, trial in names.get(digest, [])]
        title = " = ".join([*(f"teacher {name}" for name in teachers.get(digest, [])), *of_arms])
        entries[digest] = Entry(
            recipe=recipe,
            folder=store.folder_of(recipe, root=root),
            arms=tuple(arm for arm, _ in names.get(digest, [])),
            teacher=entries.get(recipe.teacher.digest or "") if recipe.teacher else None,
            test=digest in teachers,
            row=Row(name=title, seed=recipe.seed, epochs=recipe.epochs, work=work(recipe)),
        )
        entries[digest].look()
    return entries


def _fill(workers: Executor, entries: Mapping[str, Entry], *, command: tuple[str, ...], plugin: str | None) -> None:
    """Hand what waits to free workers. Each is looked at again first: another driver may have been there."""
    for entry in entries.values():
        if not workers.free:
            return
        if entry.row.state in ("waiting", "busy"):
            entry.look()
        if entry.is_ready:
            job = Job(recipe=entry.recipe, folder=entry.folder, test=entry.test, command=command, plugin=plugin)
            workers.start(job)
            entry.start()


def _after_stop(*, killed: int) -> str:
    """Say of runs that were asked to stop what became of them."""
    if not killed:
        return "Its runs are saved; the same command goes on with them."
    were = "1 of its runs was" if killed == 1 else f"{killed} of its runs were"
    return f"{were} killed for not stopping in time; the same command goes on from their last checkpoints."


def _by_arm(entries: Mapping[str, Entry]) -> dict[str, dict[str, Entry]]:
    """Return the runs of each arm, by its name and their digests."""
    by_arm: dict[str, dict[str, Entry]] = {}
    for digest, entry in entries.items():
        for name in entry.arms:
            by_arm.setdefault(name, {})[digest] = entry
    return by_arm


def _decide(study: Study, undecided: list[Arm], by_arm: Mapping[str, Mapping[str, Entry]]) -> None:
    """Ask for test where it is known which trial is an arm's: where there is one, or all have ended."""
    for arm in list(undecided):
        own = by_arm[arm.name]
        if len(arm.trials) > 1 and any(entry.is_open for entry in own.values()):
            continue
        undecided.remove(arm)
        found = {digest: entry.record for digest, entry in own.items() if entry.record is not None}
        if is_decided(study, arm, found):  # not where a run has failed
            chosen = arm.trials[choose(study, arm, found)]
            for trial, _, recipe in study.runs(arm):
                if trial is chosen:
                    own[recipe.digest].ask_for_test()
