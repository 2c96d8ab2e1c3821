r"""The tables of a study for a paper, in LaTeX with booktabs: accuracy and differences, and the contrasts of the file.

They are English. Latin letters need any engine; for names in other scripts the file says which one, in a comment.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bakeoff.reports import formats, tables
from bakeoff.reports.words import in_language
from bakeoff.results.comparison import Comparison

_ESCAPES = {
    **{letter: f"\\{letter}" for letter in "%_&#${}"},
    "\\": "\\textbackslash{}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "<": "\\textless{}",
    ">": "\\textgreater{}",
    "|": "\\textbar{}",
    "`": "\\textasciigrave{}",
    '"': "\\textquotedbl{}",
    "-": "{-}",  # two of them would be a dash
    "[": "{[}",  # at the start of a row it would be an argument of the one before
    "*": "{*}",  # so would this
    formats.MINUS: "$-$",
    formats.MISSING: "--",
    "±": "$\\pm$",
    "→": "$\\to$",
    "…": "\\ldots{}",
}
_LAST_LATIN = "\u024f"
_OWN = frozenset(_ESCAPES)
NAMES = "@{}l"  # the first column; those of digits stand at the right
Table = Sequence[Sequence[str]]


def latex(comparison: Comparison) -> str:
    r"""Return the tables, to be read with \input; they need booktabs, and \usepackage[T1]{fontenc} under pdflatex."""
    rows: list[dict[Any, Any]] = tables.leaderboard(comparison).to_dict("records")
    contrasts = [row for row in tables.differences(comparison).to_dict("records") if row["contrast"]]
    key = re.sub(r"[^A-Za-z0-9-]+", "-", comparison.study.folder_name)
    made = [_tabular(list(_arms(rows)), caption=_caption(comparison, rows), label=f"tab:{key}")]
    if contrasts:
        caption = "Paired differences between arms, with 95\\,\\% intervals; $p$ corrected by Holm for these."
        made.append(_tabular(list(_contrasts(contrasts)), caption=caption, label=f"tab:{key}-contrasts"))
    text = "\n".join(made)
    return "\n".join([*_head(text), text]).encode(errors="replace").decode()


def escape(text: str) -> str:
    """Return a text that LaTeX prints letter by letter, on one line."""
    line = "".join(letter for letter in " ".join(text.split()) if letter.isprintable())
    return "".join(_ESCAPES.get(letter, letter) for letter in line)


def _head(text: str) -> Iterator[str]:
    """Yield comments on what the tables need."""
    yield "% Written by bakeoff from the runs; do not edit. Needs \\usepackage{booktabs}."
    if any(letter > _LAST_LATIN for letter in text):
        yield "% Engine: xelatex or lualatex, and a font with the letters of these names (xeCJK or fontspec)."
    else:
        yield "% Engine: any; under pdflatex also \\usepackage[T1]{fontenc}."


def _caption(comparison: Comparison, rows: Sequence[Mapping[Any, Any]]) -> str:
    counts = sorted({int(row["n"]) for row in rows})
    n = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"
    split = "test" if comparison.split == "test" else "validation"
    left = f" Provisional: {comparison.unfinished} of {comparison.num_runs} runs are not finished."
    departed = escape(formats.departures(comparison.study, in_language("en")))
    return (
        f"{escape(comparison.study.question)} Top-1 accuracy on {split} in \\%, mean $\\pm$ half the 95\\,\\% interval "
        f"(Student's $t$) over seeds, {n}. Differences to the control, {escape(comparison.control.name)}, are in "
        "percentage points, paired by seed, with 95\\,\\% intervals; $p$ corrected by Holm. Bold: alone at rank 1."
        + (left if comparison.unfinished else "")
        + (f" {departed}" if departed else "")
    )


def _arms(rows: Sequence[Mapping[Any, Any]]) -> Iterator[list[str]]:
    yield ["Arm", "Top-1 (\\%)", "$n$", "Difference", "95\\,\\% interval", "$p$", "Params (M)", "MACs (M)"]
    for row in rows:
        mean = formats.interval(row["top1"], row["top1_low"], row["top1_high"], row["n"]).partition(" (")[0]
        shown = escape(mean if row["n"] else formats.MISSING)
        name = escape(f"{row['arm']} (= {row['repeated']})" if row["repeated"] else row["arm"])
        yield [
            f"{name} (control)" if row["is_control"] else name,
            f"\\textbf{{{shown}}}" if row["best"] else shown,
            str(row["n"]),
            *_difference(row["difference"], row["difference_low"], row["difference_high"], row["p_holm"]),
            *(escape(formats.significant(millions)) for millions in (row["params_m"], 1000 * row["macs_g"])),
        ]


def _contrasts(rows: Sequence[Mapping[Any, Any]]) -> Iterator[list[str]]:
    yield ["Arms", "$n$", "Difference", "95\\,\\% interval", "$p$"]
    for row in rows:
        pair = f"{escape(row['a'])} $-$ {escape(row['b'])}"
        yield [pair, str(row["n"]), *_difference(row["difference"], row["low"], row["high"], row["p_holm"])]


def _difference(estimate: float, low: float, high: float, p: float) -> list[str]:
    """Return three cells: difference, interval, p."""
    between = formats.MISSING if formats.is_missing(low) else f"{formats.points(low)} to {formats.points(high)}"
    return [escape(text) for text in (formats.points(estimate), between, formats.p_value(p))]


def _tabular(rows: Table, *, caption: str, label: str) -> str:
    """Return a floating table; the first row is its head."""
    head, *body = (" & ".join(row) + " \\\\" for row in rows)
    return "\n".join(
        [
            "\\begin{table}",
            "\\centering",
            f"\\caption{{{caption}}}",
            f"\\label{{{label}}}",
            f"\\begin{{tabular}}{{{NAMES}{'r' * (len(rows[0]) - 1)}@{{}}}}",
            "\\toprule",
            head,
            "\\midrule",
            *body,
            "\\bottomrule",
            "\\end{tabular}",
            "\\end{table}",
            "",
        ]
    )
