"""The report as one file that opens offline: the answer, the pictures that show it, the tables that prove it.

What it may do is written at its top as a Content-Security-Policy: run the scripts whose SHA-256 stands there, load
nothing. Two allowances are plotly.js's. It adds one empty `<style>` and fills it by rules, so the hash of nothing is
listed. It sets `style` attributes on parts of its drawings, so these are allowed; sheets of style are not.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bakeoff.reports import answer, canvas, formats, glossary, interactive, sheets, sheets_provenance
from bakeoff.reports.words import Words
from bakeoff.results.comparison import Comparison

TEMPLATES = Path(__file__).parent / "templates"
HEIGHT_PX = 420  # of a picture that does not say its own

# plotly.js adds the style sheet of its maps when it is loaded, unless an element of this id is there. It would be
# refused, aloud, so the page has the element: no picture here is a map.
_ADDS_STYLE = re.compile(r'document\.getElementById\("([0-9a-f]{64})"\)')


def html(comparison: Comparison, *, words: Words, images: interactive.Told | None = None) -> str:
    """Return the report of a study as one self-contained HTML file, to be written into the study's folder.

    The same comparison gives the same text.

    Args:
        comparison: what to report.
        words: its language.
        images: what the runs told by image; read here where it is not given.
    """
    images = images or interactive.told(comparison)
    templates = environment()
    pictures = [_drawn(picture) for picture in interactive.figures(comparison, words=words, images=images)]
    plotly = _inside_script(interactive.script()) if pictures else ""
    style = templates.get_template("page.css").render(colours=canvas)
    script = templates.get_template("page.js").render()
    text = templates.get_template("page.html").render(
        words=words,
        study=comparison.study,
        departures=formats.departures(comparison.study, words),
        answer=answer.sentence(comparison, words=words),
        extent=list(_extent(comparison, words)),
        warnings=comparison.warnings,
        pictures=pictures,
        sheets=list(sheets.known(comparison, words=words, images=images)),
        provenance=list(sheets_provenance.known(comparison, words=words)),
        base=comparison.study.control.trials[0].recipe.to_yaml(),
        glossary=list(glossary.terms(comparison, words=words)),
        style=style,
        script=script,
        plotly=plotly,
        present=_ADDS_STYLE.findall(plotly),
        policy=policy(scripts=[script, *([plotly] if plotly else [])], styles=[style, ""]),
        zip=zip,
    )
    return text.encode(errors="replace").decode()  # half a character, of a file's name, has no place in UTF-8


def environment() -> Environment:
    """Return the templates; every value is escaped, and one that is missing is an error."""
    found = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    found.trim_blocks = found.lstrip_blocks = True
    return found


def policy(*, scripts: list[str], styles: list[str]) -> str:
    """Return what the page may do: these scripts, these styles, pictures that it holds itself, and nothing else."""
    allowed = {
        "default-src": "'none'",
        "script-src": " ".join(map(_hash, scripts)),
        "style-src": " ".join(map(_hash, styles)),
        "style-src-attr": "'unsafe-inline'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{kind} {sources}" for kind, sources in allowed.items())


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _inside_script(source: str) -> str:
    """Return a script in which nothing ends its element; in strings and patterns the two spellings mean the same."""
    plain = source.replace("\r\n", "\n").replace("\r", "\n")  # as a browser reads it, before it hashes it
    return re.sub(r"<(?=/script|script|!--)", r"\\x3C", plain, flags=re.IGNORECASE)


def _drawn(picture: interactive.Picture) -> dict[str, Any]:
    """Return what the template shows of a picture; its JSON has no `<`, so that no name in it ends its element."""
    content = json.dumps(picture.figure, allow_nan=False, separators=(",", ":"))
    height = picture.figure.get("layout", {}).get("height") or HEIGHT_PX
    return {
        **{key: getattr(picture, key) for key in ("id", "title", "alt", "note", "hint")},
        "height": round(height),
        "json": content.replace("<", "\\u003c"),
    }


def _extent(comparison: Comparison, words: Words) -> Iterator[str]:
    """Yield what the study covers: how much, of what."""
    study = comparison.study
    recipes = [trial.recipe for arm in study.arms for trial in arm.trials]
    yield words("num_runs", n=formats.count(comparison.num_runs))
    yield words("num_arms", n=formats.count(len(comparison.arms)))
    yield words("seeds", seeds=", ".join(map(str, study.seeds)))
    yield ", ".join(sorted({recipe.data.name for recipe in recipes}))
    yield words("split_test" if comparison.split == "test" else "split_val")
    yield words("protocol", name=", ".join(sorted({recipe.protocol for recipe in recipes})))
