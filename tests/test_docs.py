"""The documentation says what is so: commands, files, settings and links are tried, not trusted."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image

from bakeoff import catalogue, cli
from bakeoff import study as studies
from bakeoff.cli import ranks, screen, words
from bakeoff.recipe import Recipe, Teacher, resolve
from bakeoff.recipe.resolve import SHORT, parse
from bakeoff.recipe.schema import SECTIONS
from bakeoff.reports.figures import zoo
from docs import models as models_page
from docs import models_words
from tests.reference.parity import TOLERANCE
from tests.reference.test_parity import oracles

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src" / "bakeoff"
CARDS = SRC / "library" / "recipes" / "models"
READMES = ("README.md", "README.zh-CN.md")
DOCS = (
    "docs/settings.md",
    "docs/models.md",
    "docs/how-to-add-a-model.md",
    "docs/how-to-write-a-study.md",
    "docs/distillation.md",
    "docs/your-own-images.md",
    "docs/doctor.md",
    "docs/explain.md",
    "docs/demo.md",
    "docs/export.md",
    "docs/benchmark.md",
    "docs/speed.md",
    "docs/scaling.md",
)
PAGES = (*READMES, *("ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "LOG.md"), *DOCS)
OWN_PICTURES = ("doctor", "predict", "explain", "demo", "export")
VERBS = ("train", "resume", "eval", "list", "show", *OWN_PICTURES, "distill", "study", "compare", "report", "benchmark")
VARIANTS = {section: Recipe.model_fields[section] for section in ("optimizer", "schedule", "objective")}


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", read(page), re.MULTILINE | re.DOTALL)


def commands(page: str) -> list[list[str]]:
    """List the words of each command in the bash blocks, and after a `$` in the text blocks."""
    lines = [line for block in blocks(page, "bash") for line in block.splitlines()]
    lines += [line[2:] for block in blocks(page, "text") for line in block.splitlines() if line.startswith("$ ")]
    lines += [line[9:] for block in blocks(page, "text") for line in block.splitlines() if line.startswith("  next")]
    split = (shlex.split(re.sub(r" {2,}\(.*\)$", "", line), comments=True) for line in lines)
    return [parts for parts in split if parts]


def bakeoff_commands(page: str) -> list[list[str]]:
    """List the arguments of every command that ends at the command line, by way of run.sh too."""
    found = [parts[1:] for parts in commands(page) if parts[0] == "bakeoff"]
    for parts in commands(page):
        if parts[:2] == ["bash", "run.sh"] and len(parts) > 2:
            model, *values = parts[2:]
            keys = ("epochs", "batch_size", "lr", "name")[: len(values)]
            found.append(["train", model, *(f"{k}={v}" for k, v in zip(keys, values, strict=True) if k != "name")])
    return found


def tree(page: str) -> set[str]:
    """Read the file tree: the paths under src/bakeoff that its lines name."""
    (block,) = [text for text in blocks(page, "text") if text.startswith("src/bakeoff/")]
    found, folders = set(), [""]
    for line in block.splitlines()[1:]:
        depth = (len(line) - len(line.lstrip())) // 2
        names = re.split(r" {2,}", line.strip())[0].split(", ")
        for name in names:
            folders[depth:] = [folders[depth - 1] + name] if name.endswith("/") else folders[depth:]
            found.add(folders[depth - 1] + name)
    return found


@pytest.mark.parametrize("page", READMES)
def test_every_command_parses(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (own,) = blocks(page, "yaml")
    (tmp_path / "mine.yaml").write_text(own, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    app = typer.main.get_command(cli.app)
    found = bakeoff_commands(page)
    assert {arguments[0] for arguments in found} == set(VERBS)
    for verb, *arguments in (ranks.split(typed)[1] for typed in found):
        command = app.commands[verb]  # type: ignore[attr-defined]
        if verb == "study":
            command, (verb, *arguments) = command.commands[arguments[0]], arguments
            if arguments[0] != "mine.yaml":
                studies.load(arguments[0], typed=[word for word in arguments[1:] if "=" in word])
        given = command.make_context(verb, list(arguments)).params
        if verb == "train":
            names, settings = words.split(given["arguments"])
            model = words.one(names, "model", "")
            assert resolve(model, overrides=settings, recipe=given["recipe"]).epochs > 0


@pytest.mark.parametrize("page", READMES)
def test_what_can_be_listed_and_shown_answers(
    page: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = [a for a in bakeoff_commands(page) if a[0] == "list" or (a[0] == "show" and catalogue.is_known(a[1]))]
    assert len(asked) >= 2
    for arguments in asked:
        assert cli.run(arguments) == 0
        assert capsys.readouterr().out


@pytest.mark.parametrize("page", [*READMES, "CONTRIBUTING.md", "docs/how-to-add-a-model.md"])
def test_scripts_and_modules_that_are_called_exist(page: str) -> None:
    for parts in commands(page):
        if parts[0] in ("bash", "python") and parts[1] != "-m":
            assert (ROOT / parts[1]).is_file(), parts
        if parts[:2] == ["python", "-m"]:
            assert (ROOT / parts[2].replace(".", "/")).with_suffix(".py").is_file(), parts


def test_both_languages_have_the_same_commands_output_and_addresses() -> None:
    english, chinese = (commands(page) for page in READMES)
    assert english == chinese
    outputs = [[b for b in blocks(page, "text") if " on digits" in b or b.startswith("$")] for page in READMES]
    assert outputs[0] == outputs[1]
    assert len(outputs[0]) == 3
    assert links("README.md") - {"README.zh-CN.md"} == links("README.zh-CN.md") - {"README.md"}


@pytest.mark.parametrize("page", READMES)
def test_the_tree_is_what_is_there(page: str) -> None:
    there = {
        str(path.relative_to(SRC))
        for path in SRC.rglob("*")
        if path.suffix in (".py", ".yaml") and path.name != "__init__.py" and path.parent != CARDS
    }
    named = tree(page)
    assert f"{CARDS.relative_to(SRC)}/" in named  # whose files are named after the models
    files = {path for path in named if not path.endswith("/")}
    assert files - there == set(), "named, but not there"
    assert there - files == set(), "there, but not named"
    rooms = {f"{path.relative_to(SRC)}/" for path in SRC.iterdir() if (path / "__init__.py").is_file()}
    assert rooms - named <= {"library/"}


def links(page: str) -> set[str]:
    found = re.findall(r"\]\(([^)\s]+)\)", read(page))
    return {link.partition("#")[0] for link in found if not link.startswith(("http:", "https:", "#"))}


@pytest.mark.parametrize("page", PAGES)
def test_relative_links_resolve(page: str) -> None:
    missing = [link for link in links(page) if not ((ROOT / page).parent / link).exists()]
    assert not missing


def rows(page: str) -> dict[str, str]:
    """Return the second cell of each table row by its first, where both are code."""
    return dict(re.findall(r"^\| `([^`]+)` \| `([^`]*)` \|", read(page), re.MULTILINE))


def value_of(assignment: str) -> object:
    """Read `key=value` as the command line does."""
    parsed: object = parse(assignment)
    while isinstance(parsed, dict):
        (parsed,) = parsed.values()
    return parsed


def test_every_setting_is_explained_with_its_default() -> None:
    documented = rows("docs/settings.md")
    named = {"model": type(Recipe().model), "data": SECTIONS["data"], "augment": SECTIONS["augment"]}
    named |= {"mix": SECTIONS["mix"]}
    expected = {f"{s}.{key}": field.default for s, kind in named.items() for key, field in kind.model_fields.items()}
    expected |= {k: f.default for k, f in Recipe.model_fields.items() if k not in {*named, *VARIANTS, "teacher"}}
    expected |= {f"teacher.{key}": None if f.is_required() else f.default for key, f in Teacher.model_fields.items()}
    variants = {
        variant.model_fields["name"].default for kind in VARIANTS.values() for variant in kind.annotation.__args__
    }  # type: ignore[union-attr]
    assert set(documented) - variants == set(expected)
    for key, default in expected.items():
        assert value_of(f"{key}={documented[key]}") == default, key


@pytest.mark.parametrize("section", VARIANTS)
def test_every_variant_is_explained_with_its_defaults(section: str) -> None:
    documented = rows("docs/settings.md")
    for variant in VARIANTS[section].annotation.__args__:  # type: ignore[union-attr]
        expected = {key: field.default for key, field in variant.model_fields.items()}
        name = expected.pop("name")
        pairs = documented[name].split()
        assert {pair.partition("=")[0]: value_of(f"{section}.{pair}") for pair in pairs} == expected, name


@pytest.mark.parametrize("page", READMES)
def test_short_spellings_are_complete_and_models_are_counted(page: str) -> None:
    text = read(page)
    assert any(set(spelled.split()) == set(SHORT) for spelled in re.findall(r"`([a-z_ ]+)`", text))
    assert re.search(rf"(?<!\d){len(catalogue.MODELS)} (?:names|个名字)", text)


def test_the_page_about_the_zoo_is_what_its_generator_writes() -> None:
    """Except for the measuring of parity: docs/parity.csv is read."""
    assert read("docs/models.md") == models_page.page(), "python -m docs.models"


def test_the_page_about_the_zoo_has_a_line_for_every_model_and_oracle() -> None:
    lines = read("docs/models.md").splitlines()
    for name, costs in catalogue.costs().items():
        row = next(line for line in lines if line.startswith(f"| `{name}` | {costs.params / 1e6:.3f} |"))
        assert f"`{catalogue.MODELS[name].builder}`" in row
    measured = {(row["model"], row["by"], row["image_size"]) for row in models_page.parity_rows()}
    assert measured == {(o.model, o.by, str(o.image_size)) for o in oracles()}, "python -m docs.models --parity"
    assert all(float(row[key]) < TOLERANCE for row in models_page.parity_rows() for key in ("evaluating", "training"))


def test_the_picture_of_the_zoo_is_that_of_the_catalogue() -> None:
    """Its text is compared; its pixels may differ with fonts."""
    with Image.open(models_page.PICTURE) as picture:
        described = picture.text["Description"]  # type: ignore[attr-defined]
    assert described == zoo(models_page.points(), counted=models_words.COUNTED).get_label()


def test_what_another_table_prints_is_called_the_same_where_it_is() -> None:
    for name, printed, why in models_words.PRINTED:
        digits = len(printed.partition(".")[2])
        here = f"{catalogue.costs()[name].params / 1e6:.{digits}f}"
        assert (here == printed) == why.startswith("the same"), name


def test_the_example_of_foreign_weights_runs() -> None:
    (example,) = blocks("docs/models.md", "python")
    run: dict[str, Any] = {}
    exec(example, run)
    ours, theirs = run["ours"].state_dict(), run["theirs"].state_dict()
    stem = next(value for key, value in theirs.items() if key == "stem.0.weight")
    assert any(value.shape == stem.shape and value.equal(stem) for value in ours.values())


@pytest.mark.parametrize("page", READMES)
def test_the_first_screen_shows_sixty_seconds(page: str) -> None:
    first = "\n".join(read(page).splitlines()[:25])
    assert all(command in first for command in ("bash run.sh ", "bash run.sh resnet_56", "bash test.sh"))
    assert len(read(page).splitlines()) <= 350  # a third of them is the tree of files


@pytest.mark.parametrize("page", PAGES)
def test_the_pages_speak_of_the_project_alone(page: str) -> None:
    """No path of a machine, no address of a registry, no mark of how the text was made."""
    forbidden = (
        r"(?<![\w.~/-])/(?:work|root|home|tmp|Users|mnt|opt)/",
        r"py" + r"pi\.org|python" + r"hosted",
        r"\bissue #?\d|(?<!\w)#\d",
        r"\b(?:this|a|the) session\b|\bsub-?agent|\blanguage model|\bclaude\b|\bchatgpt\b",
    )
    for pattern in forbidden:
        assert not re.findall(pattern, read(page), re.IGNORECASE), pattern


def test_the_peers_shown_are_those_of_their_record() -> None:
    measured = json.loads(read("benchmarks/reports/2026-11-23-peers-resnet_20.json"))["measured"]
    contests = [
        measured[part]["resnet_20"][way]["peers"] for part in ("training", "evaluation") for way in ("shipped", "best")
    ]
    names = {"plain torch and torchvision": "torchvision"}
    rows = re.findall(r"^\| ([\w ]+) \|((?: (?:\d\.\d\d|-) \|){4})$", read("docs/speed.md"), re.MULTILINE)
    assert len(rows) == len(contests[1]) - 1
    for name, figures in rows:
        found = [of.get(names.get(name, name.lower()), {}).get("times_as_fast", {}) for of in contests]
        assert figures.split(" |")[:-1] == [f" {of['median']:.2f}" if of.get("n") else " -" for of in found]


def test_the_result_shown_is_that_of_its_record() -> None:
    """The figures in both READMEs are those of the run kept in docs/runs, to the digit."""
    summary = json.loads((ROOT / "docs" / "runs" / "resnet_20-15-epochs" / "evaluation_summary.json").read_text())
    for name in ("README.md", "README.zh-CN.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        for part in ("test", "val"):
            assert f"resnet_20 on cifar100, {part}: {screen.accuracy(summary[part])}" in text
        assert f"training {summary['training_seconds']:,.0f} s" in text
