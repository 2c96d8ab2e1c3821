"""The verb of distillation: a student, a teacher, and the arms without which nobody could say what the teacher did."""

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bakeoff.cli import options, reporting, studies, words
from bakeoff.cli.options import LOGS, Jobs, Json, Lang, Root, Track
from bakeoff.errors import RecipeError

if TYPE_CHECKING:
    from bakeoff.recipe import Teacher
    from bakeoff.study import Study

EXAMPLE = "bakeoff distill resnet_20 --teacher logs/resnet_56/first objective=dkd"
DEFAULT = "kd"  # the oldest objective, which all others are compared with


def distill(
    arguments: Annotated[list[str], typer.Argument(metavar="STUDENT [KEY=VALUE]...", help="A model, and settings.")],
    teacher: Annotated[
        str,
        typer.Option("--teacher", help="A run, a weights file, timm:NAME; as a control, random:NAME."),
    ],
    recipe: Annotated[str | None, typer.Option(help="A shipped recipe card, or a YAML file.")] = None,
    root: Root = LOGS,
    jobs: Jobs = None,
    lang: Lang = "en",
    track: Track = None,
    as_json: Json = False,
) -> None:
    """Train a student with a measured teacher, beside the student alone and with smoothed labels alone.

    `seeds=3` trains each of the three three times, which it takes to say anything. The distilled run by itself:
    bakeoff train STUDENT objective=kd teacher=RUN

    [dim]bakeoff distill resnet_20 --teacher logs/resnet_56/first objective=dkd seeds=3[/]
    """
    from bakeoff.results import teachers

    names, settings = words.split(arguments)
    student = words.one(names, "student", EXAMPLE)
    options.track(track)
    reporting.language(lang)
    study = _study(student, settings, taught_by=teachers.identify(teacher, root=root), recipe=recipe)
    studies.conduct(study, root=root, placement=options.placement("local", jobs=jobs), lang=lang, as_json=as_json)


def _study(student: str, settings: list[str], *, taught_by: "Teacher", recipe: str | None) -> "Study":
    """Return the study of one objective: student alone (the control), distilled, and with smoothed labels alone."""
    from bakeoff import study
    from bakeoff.recipe import resolve, setting
    from bakeoff.study.schema import CARD

    student = resolve(student, recipe=recipe).model.name
    typed = dict(map(setting, settings))
    seeds = typed.pop("seeds", 1)
    if any(key.partition(".")[0] == "teacher" and key != "teacher.resize" for key in typed):
        raise RecipeError("command line", found="teacher=...", expected="--teacher RUN")
    if "model" in typed or "model.name" in typed:
        raise RecipeError("command line", found="another model", expected=f"settings of {student}")
    own: dict[str, Any] = {key: typed.pop(key) for key in list(typed) if key.partition(".")[0] == "objective"}
    objective = own.setdefault("objective", own.pop("objective.name", DEFAULT))
    named = objective.get("name", DEFAULT) if isinstance(objective, dict) else objective
    resize = typed.pop("teacher.resize", False)
    content = {
        "question": f"Does {taught_by.name[-150:]} teach {student} more than labels alone do?",
        "base": {"model": student, **({CARD: recipe} if recipe else {}), **typed},
        "control": "student alone",
        "arms": {str(named): {**own, "teacher": {**taught_by.model_dump(), "resize": resize}}},
        "changes": ["objective", "teacher"],
        "seeds": seeds,
    }
    asked = study.of(content, name=f"distill-{student.replace(':', '.')}", where="command line")
    digest = asked.arms[1].trials[0].recipe.digest
    return dataclasses.replace(asked, name=f"{asked.name}-{digest[:8]}")  # another teacher is another study
