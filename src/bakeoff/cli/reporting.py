"""The verbs of any runs: compare and report them; and how the answer of a study is printed."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bakeoff.cli import screen, words
from bakeoff.cli.options import LOGS, Json, Lang, Root
from bakeoff.errors import DataError, RecipeError

if TYPE_CHECKING:
    from bakeoff.launch.grid import End
    from bakeoff.record import Record
    from bakeoff.results.comparison import Comparison
    from bakeoff.study import Study

MOST_PAIRS = 45  # of runs that are compared image by image: all of ten runs


def compare(
    arguments: Annotated[list[str], typer.Argument(metavar="RUN RUN...", help="Folders or names of runs.")],
    root: Root = LOGS,
    as_json: Json = False,
) -> None:
    """Compare runs: accuracy with intervals, paired over seeds, and two by two on the same images."""
    from bakeoff.reports import paper
    from bakeoff.results.comparison import compare as compare_arms
    from bakeoff.results.gather import gather

    records = _records(arguments, root=root, at_least=2)
    comparison = compare_arms(*gather(records))
    images, left_out = _same_images(records)
    if as_json:
        content = {"comparison": paper.overall_summary(comparison), "same_images": images, "pairs_left_out": left_out}
        screen.print_json(content)
        return
    _print_comparison(comparison)
    if images:
        _print_same_images(images)
    if left_out:
        screen.console().print(f"  note     {left_out} more pairs of runs were not compared image by image.")


def report(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[STUDY [KEY=VALUE]...|RUN...]", help="A study, or runs; default: every run."),
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
    from bakeoff.results import studies

    language(lang)
    names, settings = words.split(arguments or [])
    asked = _asked(names[0], settings, root=root) if len(names) == 1 else None
    if asked is not None:
        comparison = compare_study(asked, root=root)
    else:
        comparison, root = _compare_runs(names, root=root, name=name)
    conclude(comparison, studies.folder(comparison.study, root=root), lang=lang, as_json=as_json)


def language(lang: str) -> None:
    """Refuse a language that reports do not have."""
    from bakeoff.reports.words import LANGUAGES

    if lang not in LANGUAGES:
        raise RecipeError("--lang", found=f"'{lang}'", expected=f"one of {', '.join(LANGUAGES)}")


def _asked(text: str, settings: Sequence[str], *, root: Path) -> "Study | None":
    """Find a study that has run, or one that could with these settings; None where the text names none."""
    from bakeoff import library, study
    from bakeoff.results import studies

    is_file = text.endswith((".yaml", ".yml"))
    if not settings and not is_file and (kept := studies.find(text, root=root)) is not None:
        return kept
    return study.load(text, typed=settings) if settings or is_file or text in library.studies() else None


def _compare_runs(names: Sequence[str], *, root: Path, name: str) -> tuple["Comparison", Path]:
    """Compare these runs, or all there are, as a study of this name; return where they live as well."""
    from bakeoff.results import gather, store, studies
    from bakeoff.results.comparison import compare as compare_arms

    store.check_name(name)
    records, unreadable = (_records(names, root=root, at_least=1), []) if names else store.records(root)
    study, found = gather.gather(records, name=name)
    home = _root_of(records)
    before = studies.find(str(studies.folder(study, root=home)), root=home)
    if before is not None and before.question != gather.QUESTION:
        expected = "a name that no study has"
        raise RecipeError("--name", found=f"'{name}', which is a study: {before.question}", expected=expected)
    studies.keep(study, root=home)
    return compare_arms(study, found, unreadable=unreadable), home


def _same_images(records: Sequence["Record"]) -> tuple[list[dict[str, Any]], int]:
    """Compare finished runs two by two, image by image, corrected for how many pairs; and count those left out."""
    from bakeoff.results import statistics
    from bakeoff.results.gather import same_images

    finished = [record for record in records if record.status == "finished"]
    pairs = list(itertools.combinations(finished, 2))
    rows: list[dict[str, Any]] = []
    for a, b in pairs[:MOST_PAIRS]:
        try:
            split, test = same_images(a, b)
        except DataError as error:
            screen.show_error(error, as_json=False)
            continue
        alone = {"only_a": test.only_a, "only_b": test.only_b, "p": test.p}
        rows.append({"a": a.name, "b": b.name, "split": split, "images": test.n, **alone})
    corrected = statistics.holm([row["p"] for row in rows])
    rows = [{**row, "p_holm": p} for row, p in zip(rows, corrected, strict=True)]
    return rows, max(0, len(pairs) - MOST_PAIRS)


def _print_same_images(rows: Sequence[dict[str, Any]]) -> None:
    from bakeoff.reports import formats

    shown = [
        {key: row[key] for key in ("a", "b", "split", "images")}
        | {"right: a alone": row["only_a"], "b alone": row["only_b"], "p (Holm)": formats.p_value(row["p_holm"])}
        for row in rows
    ]
    screen.print_rows("on the same images (McNemar, exact), of these weights, not of other seeds", shown)


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


def compare_study(study: "Study", *, root: Path) -> "Comparison":
    """Compare the arms of a study by the runs there are."""
    from bakeoff.results import store
    from bakeoff.results.comparison import compare as compare_arms

    found, unreadable = store.records_of(study.recipes().values(), root=root)
    return compare_arms(study, found, unreadable=unreadable)


def conclude(comparison: "Comparison", folder: Path, *, lang: str, as_json: bool, unwell: Sequence["End"] = ()) -> None:
    """Write the report, and print its answer, its table, where it lies, and what did not end well."""
    from bakeoff.reports import answer, paper
    from bakeoff.reports import study as study_report
    from bakeoff.reports.words import in_language

    written = study_report.write(comparison, folder, lang=lang)
    if as_json:
        screen.print_json(
            {
                "study": comparison.study.name,
                "folder": str(folder),
                "files": [str(path) for path in written],
                "answer": answer.sentence(comparison, words=in_language(lang)),
                "warnings": list(comparison.warnings),
                "unwell": [{"run": str(end.folder), "state": end.state, "error": str(end.error)} for end in unwell],
                "arms": paper.overall_summary(comparison),
            }
        )
        return
    _print_comparison(comparison, lang=lang)
    out = screen.console()
    out.print(f"  report   {folder / 'report.html'}", markup=False)
    out.print(f"  folder   {folder}/", markup=False)


def _print_comparison(comparison: "Comparison", *, lang: str = "en") -> None:
    """Print the answer, what a reader has to know, and a row an arm."""
    from bakeoff.reports import answer, formats, tables
    from bakeoff.reports.words import in_language

    out, study = screen.console(), comparison.study
    if departures := formats.departures(study, in_language(lang)):
        out.print(departures, markup=False)
    out.print(answer.sentence(comparison, words=in_language(lang)), style="bold", markup=False)
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
