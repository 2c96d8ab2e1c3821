"""How a recipe is merged: each layer acts on the complete recipe that stands so far.

The order: defaults < family card < the model's card < --recipe FILE < key=value.
"""

import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from bakeoff import catalogue, library
from bakeoff.errors import DataError, RecipeError, nearest
from bakeoff.recipe.objective import Distillation, Teacher
from bakeoff.recipe.schema import SECTIONS, Recipe

# What people type, and where it lives.
SHORT = {
    "batch": "batch_size",
    "cutmix": "mix.cutmix",
    "dataset": "data",
    "label_smoothing": "objective.label_smoothing",
    "limit": "data.limit",
    "lr": "optimizer.lr",
    "mixup": "mix.mixup",
    "momentum": "optimizer.momentum",
    "temperature": "objective.temperature",
    "warmup": "schedule.warmup",
    "weight_decay": "optimizer.weight_decay",
}

MOST_VALUES = 10_000  # of one YAML file; OmegaConf takes two seconds for so many
DEEPEST = 50  # levels of one YAML file

# Keys that take values of several kinds: what to say of them, since each kind complains for itself.
UNIONS = {"threads": "auto, or a whole number from 1 on", "compile": "auto, true or false"}


def resolve(model: str, *, overrides: Sequence[str] = (), recipe: str | None = None, plugins: bool = False) -> Recipe:
    """Merge defaults, cards, a recipe file and key=value overrides into one checked recipe.

    Args:
        model: a name of the catalogue, `timm:NAME`, or `package.module:function` where `plugins` allows it.
        overrides: `key=value`, keys dotted or one of the short spellings.
        recipe: path of a YAML file, or the name of a shipped card.
        plugins: whether `package.module:function` is allowed (it is on the command line only).

    Raises:
        RecipeError: an unknown name or key, a value of the wrong kind, an unreadable file.
        DataError: a recipe file that does not exist.
    """
    name = _model_name(model, plugins=plugins)
    layers: list[tuple[str, dict[str, Any]]] = [("command line", {"model": {"name": name}})]
    layers += [(f"card {card.stem}", read_yaml(card)) for card in _cards_of(name)]
    if recipe is not None:
        path = _recipe_path(recipe)
        layers.append((str(path), read_yaml(path)))
        layers.append(("command line", {"model": {"name": name}}))  # typed, so it stands over the file's
    layers += [("command line", parse(text)) for text in overrides]
    complete = Recipe()
    for where, layer in layers:
        complete = overlay(complete, layer, where=where)
    return settled(complete, plugins=plugins and complete.model.name == name)


def settled(recipe: Recipe, *, plugins: bool = False) -> Recipe:
    """Return the recipe as a new run's: its model in the catalogue's spelling, which is the identity.

    A new run extends none, even by another's recipe.

    Raises:
        RecipeError: an unknown model, or `package.module:function` where it is not allowed; an objective that needs a
            teacher without one, or the reverse.
    """
    if recipe.learns_from_teacher and recipe.teacher is None:
        raise RecipeError(
            "objective",
            found=f"{recipe.objective.name}, which learns from a teacher, and none",
            expected="a teacher as well (teacher=RUN), or objective=classify",
        )
    if recipe.teacher is not None and not recipe.learns_from_teacher:
        names = ", ".join(kind.model_fields["name"].default for kind in Distillation.__subclasses__())
        found = f"{recipe.teacher.name}, and an objective that learns from none ({recipe.objective.name})"
        raise RecipeError("teacher", found=found, expected=f"an objective that does, one of {names}")
    model = recipe.model.model_copy(update={"name": _model_name(recipe.model.name, plugins=plugins)})
    teacher = recipe.teacher and _teacher(recipe.teacher)
    return recipe.model_copy(update={"model": model, "teacher": teacher, "extended_from": []})


def _teacher(teacher: Teacher) -> Teacher:
    """Return a teacher by its own spelling; one that its name alone describes has no digest."""
    name = teacher.name
    if name.startswith((catalogue.RANDOM, catalogue.TIMM)) and teacher.digest is not None:
        raise RecipeError("teacher.digest", found=teacher.digest, expected=f"none: {name} says what it is")
    if name.startswith(catalogue.RANDOM):
        name = f"{catalogue.RANDOM}{_model_name(name.removeprefix(catalogue.RANDOM), plugins=False)}"
    return teacher.model_copy(update={"name": name})


def load(path: Path) -> Recipe:
    """Read a resolved recipe, as a run's folder keeps it."""
    return overlay(Recipe(), read_yaml(path), where=str(path))


def overlay(base: Recipe, layer: Mapping[str, Any], *, where: str) -> Recipe:
    """Lay `layer` over a complete recipe.

    A section whose `name` changes starts afresh from the defaults of its new name: a learning rate
    that suits SGD is not quietly handed to Adam.
    """
    merged = _merge(base.model_dump(), layer)
    try:
        return Recipe.model_validate(merged)
    except ValidationError as error:
        raise _explain(error, where=where) from None


def read_yaml(path: Path, *, what: str = "recipe") -> dict[str, Any]:
    """Read one YAML mapping, safely: no tags that run code, no file above 1 MB, nothing that grows when it is read.

    Args:
        path: of the file.
        what: it is, for messages.

    Raises:
        RecipeError: it is unreadable, or no mapping.
        DataError: it does not exist.
    """
    try:
        if path.stat().st_size > 1_000_000:
            raise RecipeError(str(path), found="a file above 1 MB", expected=f"a {what} of a few lines")
        text = path.read_text(encoding="utf-8")
        _refuse_explosive(text, where=path)
        content = OmegaConf.to_container(OmegaConf.load(io.StringIO(text)), resolve=False)
    except FileNotFoundError:
        raise DataError(str(path), found="no such file", expected=f"a {what} in YAML") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, OmegaConfBaseException, ValueError, RecursionError) as error:
        line = " ".join(str(error).split())
        raise RecipeError(str(path), found=f"unreadable YAML ({line})", expected=f"a {what} in YAML") from None
    if not isinstance(content, dict):
        raise RecipeError(str(path), found=f"a {type(content).__name__}", expected=f"a mapping of {what} keys")
    return {str(key): value for key, value in content.items()}


def _refuse_explosive(text: str, *, where: Path) -> None:
    """Refuse aliases that stand for more than anybody writes, before they are written out; and a nest without end.

    It looks at the parser's events, which are as many as the text is long, and stops at the first that is too much.
    """
    values = 0
    of_anchor: dict[str | None, int] = {}
    opened: list[tuple[str | None, int]] = []
    for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # ten times as fast in C
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, before = opened.pop()
            of_anchor[anchor] = values - before
        elif isinstance(event, yaml.AliasEvent):
            values += of_anchor.get(event.anchor, 1)
        elif isinstance(event, yaml.NodeEvent):
            values += 1
            of_anchor[event.anchor] = 1
            if isinstance(event, yaml.CollectionStartEvent):
                of_anchor[event.anchor] = MOST_VALUES  # until it ends: an alias inside would hold itself
                opened.append((event.anchor, values - 1))
        if values > MOST_VALUES or len(opened) > DEEPEST:
            found = f"more than {MOST_VALUES:,} values or {DEEPEST} levels, aliases written out"
            raise RecipeError(str(where), found=found, expected="a file that a person wrote")


def _model_name(name: str, *, plugins: bool) -> str:
    if ":" not in name:
        return catalogue.find(name).name
    if catalogue.is_plugin(name) and not plugins:
        raise RecipeError(
            "model.name",
            found=f"'{name}'",
            expected="a name of the catalogue, or timm:NAME",
            hint="package.module:function is taken from the command line only, since it runs code.",
        )
    return name


def _cards_of(model: str) -> list[Path]:
    if model.startswith(catalogue.TIMM):
        return [library.recipe_cards()["modern"]]  # AdamW trains any architecture, if not best
    if model not in catalogue.MODELS:
        return []
    own = library.model_card(model)
    return [library.recipe_cards()[catalogue.MODELS[model].family], *([own] if own.is_file() else [])]


def _recipe_path(recipe: str) -> Path:
    shipped = library.recipe_cards()
    if recipe in shipped:
        return shipped[recipe]
    is_file = os.path.isfile(recipe)  # unlike Path's, it has an answer to any text
    if not is_file and "/" not in recipe and not recipe.endswith((".yaml", ".yml")):
        raise RecipeError(
            "--recipe",
            found=f"'{recipe}'",
            expected=f"a YAML file, or one of {', '.join(shipped)}",
            hint=nearest(recipe, shipped),
        )
    return Path(recipe)


def parse(text: str) -> dict[str, Any]:
    """Turn one `key=value` into a nested mapping."""
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key or any(not part for part in key.split(".")):
        raise RecipeError("command line", found=f"'{text}'", expected="key=value, such as epochs=15")
    if SHORT.get(key, key) in ("data", "data.name") and catalogue.is_own(value):
        return {"data": {"name": value}}  # a name of a folder is no YAML, whatever it looks like
    try:
        dotted = OmegaConf.from_dotlist([f"{SHORT.get(key, key)}={value}"])
        parsed = OmegaConf.to_container(dotted, resolve=False)
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, KeyError, IndexError, RecursionError) as error:
        line = " ".join(str(error).split())
        raise RecipeError(key, found=f"'{value}' ({line})", expected="a value in YAML") from None
    assert isinstance(parsed, dict)
    return {str(key): value for key, value in parsed.items()}


def setting(text: str) -> tuple[str, Any]:
    """Return the dotted key and the value of one `key=value`."""
    layer: Any = parse(text)
    keys = []
    while isinstance(layer, dict) and len(layer) == 1:
        (key, layer), *_ = layer.items()
        keys.append(str(key))
    return ".".join(keys), layer


def nest(layer: Mapping[str, Any]) -> dict[str, Any]:
    """Write dotted and short keys out: {"lr": 0.1} is {"optimizer": {"lr": 0.1}}.

    In whatever order they stand, a dotted key is laid over the section that it belongs to; of two spellings of one key
    the later wins. A section given by its name alone is that name.
    """
    return _nest({SHORT.get(str(key), str(key)): value for key, value in layer.items()})


def _nest(layer: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key in sorted(layer, key=lambda key: key.count(".")):  # a section before what is laid over it
        *sections, leaf = key.split(".")
        place = nested
        for section in sections:
            inner = place.get(section, {})
            place[section] = inner if isinstance(inner, dict) else {"name": inner}
            place = place[section]
        value, before = layer[key], place.get(leaf)
        if isinstance(value, Mapping):
            value = {**(before if isinstance(before, dict) else {}), **_nest({str(k): v for k, v in value.items()})}
        place[leaf] = value
    return nested


def _merge(base: dict[str, Any], layer: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in layer.items():
        if key == "teacher" and isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value)  # a run whose name YAML reads as a number
        if key in Recipe.NAMED and isinstance(value, str):
            value = {"name": value}
        merged[key] = _laid_over(merged.get(key), value)
    return merged


def _laid_over(current: object, value: object) -> object:
    """Return a section with another laid over it; one of another name starts afresh, and so do options within."""
    if not isinstance(value, Mapping):
        return value
    if isinstance(current, str):  # a section given by its name alone
        current = {"name": current}
    if not isinstance(current, dict) or value.get("name", current.get("name")) != current.get("name"):
        return dict(value)
    return current | {key: _laid_over(current.get(key), inner) for key, inner in value.items()}


def _explain(error: ValidationError, *, where: str) -> RecipeError:
    """Turn pydantic's first complaint into one message about the key as the person would type it."""
    first = error.errors()[0]
    # Discriminated unions put the chosen name into the location: (optimizer, sgd, lr).
    if first["loc"] and first["loc"][0] in UNIONS:
        key = str(first["loc"][0])
        return RecipeError(_place(key, where=where), found=f"{first['input']!r}", expected=UNIONS[key])
    union = first["loc"][:1] in (("optimizer",), ("schedule",), ("objective",))
    at = [str(part) for i, part in enumerate(first["loc"]) if not (union and i == 1)]
    key = ".".join(at)
    found = f"{first['input']!r}" if not isinstance(first["input"], dict) else "a section"
    expected, hint = str(first["msg"]).removeprefix("Value error, "), ""
    expected = expected[0].lower() + expected[1:]
    if first["type"] == "extra_forbidden":
        known = _keys_near(first["loc"])
        found, expected = f"an unknown key '{at[-1]}'", f"one of {', '.join(known)}"
        hint = nearest(at[-1], [*known, *(SHORT if len(at) == 1 else ())])
    elif at == ["data", "name"]:
        hint = nearest(str(first["input"]), [*catalogue.DATASETS, *catalogue.OWN])
    elif first["type"] in ("literal_error", "union_tag_invalid"):
        context: Mapping[str, Any] = first.get("ctx", {})
        listed = str(context.get("expected_tags") or context["expected"]).replace(" or ", ", ")
        names = [name.strip("' ") for name in listed.split(",")]
        if first["type"] == "union_tag_invalid":
            key, found = f"{key}.name", f"'{context['tag']}'"
        expected, hint = f"one of {', '.join(names)}", nearest(str(context.get("tag", first["input"])), names)
    expected = expected.removeprefix("input should be ")
    return RecipeError(_place(key, where=where), found=found, expected=expected, hint=hint)


def _place(key: str, *, where: str) -> str:
    """Return where a key stands; one that was typed stands for itself."""
    parts = (key,) if where == "command line" else (where, key)
    return ": ".join(filter(None, parts)) or where


def _keys_near(location: Iterable[int | str]) -> list[str]:
    """List the keys of the section in which the unknown key stood."""
    parts = [str(part) for part in location][:-1]
    if not parts:
        return sorted(Recipe.model_fields)
    return sorted(SECTIONS[parts[-1]].model_fields)
