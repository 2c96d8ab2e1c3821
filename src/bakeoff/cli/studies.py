"""The verbs of questions: run, check and show a study; compare and report any runs."""

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bakeoff.cli import options, screen, words
from bakeoff.cli.options import LOGS, OPEN, Json, Root, Track
from bakeoff.errors import BakeoffError, DataError, RecipeError

if TYPE_CHECKING:
    from bakeoff.launch.check import Check
    from bakeoff.launch.check import Row as CheckRow
    from bakeoff.record import Record
    from bakeoff.results.comparison import Comparison
    from bakeoff.study import Study
    from bakeoff.study.expand import Changes

SHOWN = 2  # changes of an arm in a table
EXAMPLE = "bakeoff study run eca-kernel epochs=8 data.limit=10000 seeds=3"
Name = Annotated[
    list[str], typer.Argument(metavar="NAME|FILE [KEY=VALUE]...", help="A study, and settings for all arms.")
]
Lang = Annotated[str, typer.Option("--lang", help="Language of the report: en or zh.")]

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
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs side by side: on the CPU, or on each GPU.")] = None,
    lang: Lang = "en",
    track: Track = None,
    as_json: Json = False,
) -> None:
    """Run what a study still lacks, then write its report. Run it again to go on.

    [dim]bakeoff study run eca-kernel epochs=8 data.limit=10000 seeds=3[/]
    """
    from bakeoff.cli import board
    from bakeoff.launch import check, grid
    from bakeoff.results import studies
    from bakeoff.training.provenance import command_line

    study = _load(arguments)
    language(lang)
    options.track(track)
    found = check.check(study, root=root, jobs=jobs)
    studies.keep(study, root=root)
    if not as_json:
        _announce(study, found)
    with board.show(study.name) as tell:
        outcome = grid.run(study, root=root, jobs=jobs, tell=tell, command=command_line())
    comparison, unreadable = _compare(study, root=root)
    _conclude(comparison, unreadable, studies.folder(study, root=root), lang=lang, as_json=as_json)
    unwell = [*outcome.failed, *outcome.diverged]
    for end in unwell:
        error = f"{end.error}" if end.error else "it diverged"
        screen.console(stderr=True).print(
            f"{end.state}  {' = '.join(end.arms)}, seed {end.recipe.seed}: {error}", markup=False
        )
    if unwell:
        raise typer.Exit(1)


@app.command(context_settings=OPEN)
def check(
    arguments: Name,
    root: Root = LOGS,
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs side by side.")] = None,
    as_json: Json = False,
) -> None:
    """Build every network of a study without running it; say what differs, what it takes, and what is left to do."""
    from bakeoff.launch import check as checks

    study = _load(arguments)
    found = checks.check(study, root=root, jobs=jobs)
    if as_json:
        content = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
        rows = [dataclasses.asdict(row) for row in found.rows]
        screen.print_json({**content, "study": study.name, "rows": rows})
    else:
        _announce(study, found, rows=True)


@app.command(context_settings=OPEN)
def show(arguments: Name, as_json: Json = False) -> None:
    """Show a study's question, its arms and what each changes, without building anything."""
    study = _load(arguments)
    rows = [_arm_row(arm.name, arm.changed, len(arm.trials), len(arm.trials) * len(study.seeds)) for arm in study.arms]
    if as_json:
        content = {"name": study.name, "question": study.question, "seeds": list(study.seeds), "arms": rows}
        screen.print_json(content | {"warnings": list(study.warnings), "runs": len(study.recipes())})
        return
    out = screen.console()
    out.print(study.question, style="bold", markup=False)
    screen.print_rows(f"{len(study.arms)} arms, {len(study.seeds)} seeds, {len(study.recipes())} runs", rows)
    for warning in study.warnings:
        out.print(f"  note     {warning}", markup=False)


def compare(
    arguments: Annotated[list[str], typer.Argument(metavar="RUN RUN...", help="Folders or names of runs.")],
    root: Root = LOGS,
    as_json: Json = False,
) -> None:
    """Compare runs: accuracy with intervals, paired over seeds, and two by two on the same images."""
    from bakeoff.results.comparison import compare as compare_arms
    from bakeoff.results.gather import gather, same_images

    records = _records(arguments, root=root, at_least=2)
    study, found = gather(records)
    comparison = compare_arms(study, found)
    images = []
    for a, b in itertools.islice(itertools.combinations(records, 2), 45):  # of ten runs
        if a.status == b.status == "finished":
            try:
                split, test = same_images(a, b)
            except DataError as error:
                screen.show_error(error, as_json=False)
                continue
            images.append(
                {
                    "a": a.name,
                    "b": b.name,
                    "split": split,
                    "images": test.n,
                    "only_a": test.only_a,
                    "only_b": test.only_b,
                }
                | {"p": test.p}
            )
    if as_json:
        from bakeoff.reports.paper import overall_summary

        screen.print_json({"comparison": overall_summary(comparison), "same_images": images})
        return
    _print_comparison(comparison)
    if images:
        screen.print_rows("on the same images (McNemar, exact): right by one of the two alone", images)


def report(
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[STUDY|RUN...]", help="A study, or runs; default: every run.")
    ] = None,
    root: Root = LOGS,
    name: Annotated[str, typer.Option(help="What a report of runs is called.")] = "runs",
    lang: Lang = "en",
    as_json: Json = False,
) -> None:
    """Write a report of a study, finished or not, or of any runs: page, Markdown, LaTeX, CSV, pictures.

    [dim]bakeoff report eca-kernel[/]
    [dim]bakeoff report logs/resnet_20/* --name mine[/]
    """
    from bakeoff.results import store, studies
    from bakeoff.results.comparison import compare as compare_arms
    from bakeoff.results.gather import gather

    language(lang)
    store.check_name(name)
    names = arguments or []
    kept = _asked(names[0], root=root) if len(names) == 1 else None
    if kept is not None:
        comparison, unreadable = _compare(kept, root=root)
    else:
        records, unreadable = (_records(names, root=root, at_least=1), []) if names else _all(root)
        study, found = gather(records, name=name)
        comparison, root = compare_arms(study, found), _root_of(records)
    folder = studies.folder(comparison.study, root=root)
    _conclude(comparison, unreadable, folder, lang=lang, as_json=as_json)


def language(lang: str) -> None:
    """Refuse a language that reports do not have."""
    from bakeoff.reports.words import LANGUAGES

    if lang not in LANGUAGES:
        raise RecipeError("--lang", found=f"'{lang}'", expected=f"one of {', '.join(LANGUAGES)}")


def _load(arguments: Sequence[str]) -> "Study":
    from bakeoff import study

    names, settings = words.split(arguments)
    return study.load(words.one(names, "study", EXAMPLE), typed=settings)


def _asked(text: str, *, root: Path) -> "Study | None":
    """Find a study that has run, or one that could; None where the text names none."""
    from bakeoff import library, study
    from bakeoff.results import studies

    kept = studies.find(text, root=root)
    return study.load(text) if kept is None and text in library.studies() else kept


def _records(names: Sequence[str], *, root: Path, at_least: int) -> list["Record"]:
    from bakeoff.results import store

    if len(names) < at_least:
        found = f"{len(names)} runs"
        raise RecipeError("command line", found=found, expected=f"{at_least} or more runs, by folder or name")
    return [store.find(name, root=root).record() for name in names]


def _root_of(records: Sequence["Record"]) -> Path:
    """Return the folder of all these runs: their report lies beside them, and links to them."""
    roots = sorted({record.folder.parent.parent for record in records})
    if len({root.resolve() for root in roots}) > 1:
        found = f"runs in {' and '.join(map(str, roots[:3]))}"
        raise RecipeError("command line", found=found, expected="runs that live under one root")
    return roots[0]


def _all(root: Path) -> tuple[list["Record"], list[BakeoffError]]:
    from bakeoff.results import store

    return store.records(root)


def _compare(study: "Study", *, root: Path) -> tuple["Comparison", list[BakeoffError]]:
    from bakeoff.results import store
    from bakeoff.results.comparison import compare

    found, unreadable = store.records_of(study.recipes().values(), root=root)
    return compare(study, found), unreadable


def _conclude(
    comparison: "Comparison", unreadable: Sequence[BakeoffError], folder: Path, *, lang: str, as_json: bool
) -> None:
    """Write the report, and print its answer, its table, where it lies, and what to type next."""
    from bakeoff.reports import study as study_report

    for error in unreadable:
        screen.show_error(error, as_json=False)
    written = study_report.write(comparison, folder, lang=lang)
    if as_json:
        from bakeoff.reports.paper import overall_summary

        content: dict[str, Any] = {"study": comparison.study.name, "folder": str(folder)}
        screen.print_json(content | {"files": [str(path) for path in written], **overall_summary(comparison)})
        return
    _print_comparison(comparison)
    out = screen.console()
    out.print(f"  report   {folder / 'report.html'}", markup=False)
    out.print(f"  folder   {folder}/", markup=False)


def _print_comparison(comparison: "Comparison") -> None:
    from bakeoff.reports import answer, formats, tables
    from bakeoff.reports.words import in_language

    out, study = screen.console(), comparison.study
    if study.scaled:
        out.print(f"Scaled down: {formats.changes(study.scaled)}", markup=False)
    out.print(answer.sentence(comparison, words=in_language("en")), style="bold", markup=False)
    for warning in comparison.warnings:
        out.print(f"  note     {warning}", markup=False)
    rows = [
        {
            "rank": formats.count(row["rank"]),
            "arm": row["arm"],
            f"{comparison.split} top-1 (%)": formats.interval(row["top1"], row["top1_low"], row["top1_high"], row["n"]),
            "difference (points)": "control"
            if row["is_control"]
            else formats.difference(row["difference"], row["difference_low"], row["difference_high"]),
            "p (Holm)": formats.p_value(row["p_holm"]),
            "training": formats.duration(row["training_s"]),
        }
        for row in tables.leaderboard(comparison).to_dict("records")
    ]
    screen.print_rows(f"{study.name}: {len(rows)} arms, {comparison.num_runs} runs", rows)


def _announce(study: "Study", found: "Check", *, rows: bool = False) -> None:
    """Say on stderr what is there, what is left, what it takes, and what makes arms not comparable."""
    out = screen.console(stderr=True)
    out.print(study.question, style="bold", markup=False)
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
    listed = [f"{key} {before} -> {now}" for key, (before, now) in changed.items()] or ["control"]
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return {"arm": name, "changes": ", ".join(listed[:SHOWN]) + more, "trials": trials, "runs": runs}
