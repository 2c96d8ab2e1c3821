"""The verbs of a study: run, check, show."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bakeoff.cli import options, pictures, reporting, screen, words
from bakeoff.cli.options import LOGS, OPEN, Address, Executor, Jobs, Json, Lang, Root, Slurm, Store, Track

if TYPE_CHECKING:
    from bakeoff.launch.check import Check
    from bakeoff.launch.check import Row as CheckRow
    from bakeoff.launch.executors import Placement
    from bakeoff.study import Study
    from bakeoff.study.expand import Changes

SHOWN = 2  # changes of an arm in a table
EXAMPLE = "bakeoff study run eca-kernel epochs=8 data.limit=10000 seeds=3"
Name = Annotated[
    list[str], typer.Argument(metavar="NAME|FILE [KEY=VALUE]...", help="A study, and settings for all arms.")
]

app = typer.Typer(
    name="study",
    help="Ask a question: a base recipe, arms, seeds; its runs, its statistics and its report follow.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@app.command(context_settings=OPEN)
def run(
    arguments: Name,
    root: Root = LOGS,
    jobs: Jobs = None,
    executor: Executor = "local",
    address: Address = None,
    store: Store = None,
    slurm: Slurm = None,
    lang: Lang = "en",
    track: Track = None,
    as_json: Json = False,
) -> None:
    """Run what a study still lacks, then write its report. Run it again to go on.

    [dim]bakeoff study run eca-kernel epochs=8 data.limit=10000 seeds=3[/]
    """
    study = _load(arguments)
    reporting.language(lang)
    options.track(track)
    placement = options.placement(executor, jobs=jobs, address=address, store=store, slurm=slurm)
    conduct(study, root=root, placement=placement, lang=lang, as_json=as_json)


def conduct(study: "Study", *, root: Path, placement: "Placement", lang: str, as_json: bool) -> None:
    """Check a study, run what it lacks, write its report, and print what came out.

    Raises:
        typer.Exit: runs failed or diverged.
    """
    from bakeoff.cli import board
    from bakeoff.launch import check, grid
    from bakeoff.results import studies, teachers
    from bakeoff.training.provenance import command_line

    study = teachers.identified_in(study, root=root)
    found = check.check(study, root=root, placement=placement)
    recipes = study.recipes().values()
    pictures.warn_of_changed(recipes, pictures.prepare(recipes), root=root)
    if found.to_do:
        check.measure_teachers(study, root=root)
    studies.keep(study, root=root)
    if not as_json:
        _announce(study, found)
    with board.show(study.name) as tell:
        outcome = grid.run(study, root=root, placement=placement, tell=tell, command=command_line())
    unwell = [*outcome.failed, *outcome.diverged]
    folder = studies.folder(study, root=root)
    reporting.conclude(reporting.compare_study(study, root=root), folder, lang=lang, as_json=as_json, unwell=unwell)
    for end in unwell:
        told = f"{end.state}  {end.name}, seed {end.recipe.seed}: {end.error}"
        screen.console(stderr=True).print(told, markup=False)
    if unwell:
        raise typer.Exit(1)


@app.command(context_settings=OPEN)
def check(
    arguments: Name,
    root: Root = LOGS,
    jobs: Jobs = None,
    as_json: Json = False,
) -> None:
    """Build every network of a study without running it; say what differs, what it takes, and what is left to do."""
    from bakeoff.launch import check as checks
    from bakeoff.results import teachers

    study = teachers.identified_in(_load(arguments), root=root)
    found = checks.check(study, root=root, placement=options.placement("local", jobs=jobs))
    if as_json:
        content = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
        rows = [dataclasses.asdict(row) for row in found.rows]
        screen.print_json({**content, "study": study.name, "rows": rows})
    else:
        _announce(study, found, rows=True)


@app.command(context_settings=OPEN)
def show(arguments: Name, as_json: Json = False) -> None:
    """Show a study's question, its arms and what each changes, without building anything."""
    from bakeoff.reports import formats

    study = _load(arguments)
    rows = [_arm_row(arm.name, arm.changed, len(arm.trials), len(arm.trials) * len(study.seeds)) for arm in study.arms]
    if as_json:
        content = {"name": study.name, "question": study.question, "seeds": list(study.seeds), "arms": rows}
        screen.print_json(content | {"warnings": list(study.warnings), "runs": len(study.recipes())})
        return
    out = screen.console()
    out.print(study.question, style="bold", markup=False)
    base = ", ".join(f"{key} {formats.setting(value)}" for key, value in study.file.base.items())
    out.print(f"  base     {base}", markup=False)
    if study.scaled:
        out.print(f"  typed    {formats.changes(study.scaled)}", markup=False)
    screen.print_rows(f"{len(study.arms)} arms, {len(study.seeds)} seeds, {len(study.recipes())} runs", rows)
    for a, b in study.contrasts:
        out.print(f"  also     {a} against {b}", markup=False)
    for warning in study.warnings:
        out.print(f"  note     {warning}", markup=False)


def _load(arguments: Sequence[str]) -> "Study":
    from bakeoff import study

    names, settings = words.split(arguments)
    return study.load(words.one(names, "study", EXAMPLE), typed=settings)


def _announce(study: "Study", found: "Check", *, rows: bool = False) -> None:
    """Say on stderr what is there, what is left, what it takes, and what makes arms not comparable."""
    from bakeoff.reports import formats

    out = screen.console(stderr=True)
    out.print(study.question, style="bold", markup=False)
    if study.scaled:
        out.print(f"  typed    {formats.changes(study.scaled)}", markup=False)
    there = {"finished": found.finished, "diverged": found.diverged, "interrupted": found.interrupted}
    counted = ", ".join(f"{count} {state}" for state, count in there.items() if count)
    out.print(
        f"  runs     {found.to_do} to do of {found.distinct}{f' ({counted})' if counted else ''}: about "
        f"{screen.duration(found.seconds)} with {found.jobs} side by side, {found.disk_bytes / 1e6:,.0f} MB on disk",
        markup=False,
    )
    for names in found.repeats:
        out.print(
            f"  note     {' and '.join(names)} are one network, trained alike: how they differ is noise.", markup=False
        )
    for warning in found.warnings:
        out.print(f"  note     {warning}", markup=False)
    if rows:
        screen.print_rows(f"{len(found.rows)} arms, {len(study.seeds)} seeds", [_check_row(row) for row in found.rows])


def _check_row(row: "CheckRow") -> dict[str, Any]:
    return {
        **_arm_row(row.arm, row.changed, row.trials, row.to_do),
        "params": row.params,
        "macs": row.macs,
        "time": screen.duration(row.seconds),
        "from": row.basis,
    }


def _arm_row(name: str, changed: "Changes", trials: int, runs: int) -> dict[str, Any]:
    """Return what one arm changes, the first of it where it is much."""
    from bakeoff.reports import formats

    listed = [formats.changes({key: change}) for key, change in changed.items()] or ["control"]
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return {"arm": name, "changes": ", ".join(listed[:SHOWN]) + more, "trials": trials, "runs": runs}
