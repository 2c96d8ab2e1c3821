"""Write docs/models.md and docs/models.png: the page about the zoo, from the catalogue and the networks themselves.

    python -m docs.models                     (the two files)
    python -m docs.models --parity            (first runs every oracle of tests/reference/, which takes minutes)
    python -m docs.models --parity NAME...    (only the oracles of these names; the others keep their rows)

Nothing on the page is typed that can be read off the code: shapes, costs and twins come from networks on torch's meta
device, parity from docs/parity.csv. Words, and what other tables print, stand in docs/models_words.py.
"""

import argparse
import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from bakeoff import catalogue, library, models
from bakeoff.errors import RecipeError
from bakeoff.models.adopt import COUNTER, RULES
from bakeoff.models.cost import fingerprint
from bakeoff.reports.figures import Point, save, zoo
from docs import models_words as words

HERE = Path(__file__).parent
PAGE, PICTURE, PARITY = HERE / "models.md", HERE / "models.png", HERE / "parity.csv"
COLUMNS = ("model", "by", "how", "image_size", "evaluating", "training", "torch")
Row = Mapping[str, str]

# Sizes below and above where networks take their official form, divided by 2 never, once, twice and so on: the first
# that a network takes says of what its sizes must be multiples.
SMALL, LARGE = (47, 46, 44, 40, 48), (225, 226, 228, 232, 240, 224)


@cache
def network(name: str, size: int = 32) -> nn.Module:
    """Build a network for 100 classes on the meta device: shapes without numbers."""
    with torch.device("meta"):
        return models.build(name, num_classes=100, image_size=size).eval()


def sizes(name: str) -> list[str]:
    """Return the height of each stage's map for a picture of 32 px, tokens as the square they are."""
    net = network(name)
    shapes: dict[str, tuple[int, ...]] = {}

    def note(stage: str, out: Tensor) -> None:
        shapes[stage] = tuple(out.shape)

    stages: list[str] = net.stages  # type: ignore[assignment]
    hooks = [
        net.get_submodule(stage).register_forward_hook(lambda _m, _x, out, stage=stage: note(stage, out))
        for stage in stages
    ]
    with torch.no_grad():
        net(torch.empty(1, 3, 32, 32, device="meta"))
    for hook in hooks:
        hook.remove()
    return [str(shapes[s][2]) if len(shapes[s]) == 4 else f"{round(shapes[s][1] ** 0.5)}" for s in stages]


def takes(name: str, size: int) -> bool:
    """Tell whether the network is built for pictures of this size."""
    try:
        network(name, size)
    except RecipeError:
        return False
    return True


def smallest(name: str) -> str:
    """Return the smallest of 8, 16 and 32 px that it takes, and of what all sizes must be multiples."""
    least = next(size for size in (8, 16, 32) if takes(name, size))
    small, large = multiples(catalogue.MODELS[name].builder)
    rules = [f"multiples of {small}"] if small > 1 else []
    rules += [f"from 128 px on of {large}"] if large != small else []
    return f"{least}" + (f" ({', '.join(rules)})" if rules else "")


@cache
def multiples(builder: str) -> tuple[int, int]:
    """Return of what the sizes of pictures must be multiples, below and above where the official form begins."""
    small, large = (next(size & -size for size in sizes if takes(builder, size)) for sizes in (SMALL, LARGE))
    return small, large


def table(head: str, rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; a column whose heading ends in a colon stands to the right."""
    names = [name.strip() for name in head.split("|")]
    rule = ["---:" if name.endswith(":") else "---" for name in names]
    lines = [[name.removesuffix(":") for name in names], rule, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cite(model: catalogue.Model) -> str:
    """Return authors and year of the paper, linked."""
    authors, address = model.paper.partition(", ")[0], model.paper.rpartition(", ")[2]
    return f"[{authors} {model.year}]({address})"


def spell(value: object) -> str:
    """Write an option as YAML has it."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {spell(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(spell, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def zoo_row(name: str) -> list[str]:
    """Return the line of one name."""
    model, costs = catalogue.MODELS[name], catalogue.costs()[name]
    options = "".join(f" `{key}={spell(value)}`" for key, value in model.options.items())
    return [
        f"`{name}`",
        f"{costs.params / 1e6:.3f}",
        f"{costs.macs / 1e6:,.1f}",
        f"{costs.activations / 1e6:.2f}",
        " ".join(sizes(name)),
        f"`{network(name).stages[-1]}`",  # type: ignore[index]
        smallest(name),
        cite(model),
        f"`{model.builder}`{options}",
    ]


def families() -> Iterator[str]:
    """Yield a heading, the card's purpose and a table for each family."""
    for family in dict.fromkeys(model.family for model in catalogue.MODELS.values()):
        card = library.recipe_cards()[family]
        link = f"../src/bakeoff/library/recipes/{card.name}"
        yield f"### `{family}`\n\nRecipe card [{card.name}]({link}): {library.purpose(card)}."
        names = [name for name, model in catalogue.MODELS.items() if model.family == family]
        yield table(words.ZOO_HEAD, map(zoo_row, names))


def twins() -> list[list[str]]:
    """Return the groups of names that compute the same; only those that cost the same can."""
    costs = catalogue.costs()
    shared = {cost for cost, times in Counter(costs.values()).items() if times > 1}
    groups: dict[str, list[str]] = {}
    for name in catalogue.MODELS:
        if costs[name] in shared:
            groups.setdefault(fingerprint(network(name), (3, 32, 32)), []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def listed(names: Iterable[str]) -> str:
    """Return the names as code, with commas."""
    return ", ".join(f"`{name}`" for name in names)


def parity_rows() -> list[Row]:
    """Read what was measured."""
    with PARITY.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def measure(names: Sequence[str]) -> None:
    """Run the oracles of these names, evaluating and training, or all if none is given; write docs/parity.csv."""
    from tests.reference.parity import Recorded
    from tests.reference.test_parity import oracles

    torch.set_num_threads(1)
    kept = {(row["model"], row["by"]): row for row in parity_rows()} if names else {}
    rows: list[Row] = []
    for oracle in oracles():
        key = (oracle.model, oracle.by)
        if names and oracle.model not in names and key in kept:
            rows.append(kept[key])
            continue
        torch.manual_seed(0)
        how = "recorded" if isinstance(oracle, Recorded) else "run"
        evaluating, training = (f"{oracle.difference(training=training):.1e}" for training in (False, True))
        version = torch.__version__.partition("+")[0]
        values = (*key, how, str(oracle.image_size), evaluating, training, version)
        rows.append(dict(zip(COLUMNS, values, strict=True)))
        print(*values, flush=True)
    with PARITY.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def parity() -> Iterator[str]:
    """Yield what the oracles say, and who has none."""
    measured = parity_rows()
    versions = ", ".join(sorted({row["torch"] for row in measured}))
    worst = max(float(row[key]) for row in measured for key in ("evaluating", "training"))
    yield words.PARITY.format(versions=versions, count=len(measured), worst=f"{worst:.1e}")
    order = {name: place for place, name in enumerate([*catalogue.MODELS, *models.BUILDERS])}
    rows = sorted(measured, key=lambda row: order[row["model"]])
    yield table(
        words.PARITY_HEAD,
        (
            [f"`{r['model']}`", r["by"], r["how"], r["image_size"], *map(_exact, (r["evaluating"], r["training"]))]
            for r in rows
        ),
    )
    without = [name for name in catalogue.MODELS if name not in {row["model"] for row in measured}]
    yield f"Without an oracle: {listed(without) or 'none'}."


def _exact(difference: str) -> str:
    return difference if float(difference) else "0"


def misfits(builder: str) -> list[str]:
    """Return the tensors whose shapes differ between the small and the official form."""
    small, official = (
        {key: tuple(value.shape) for key, value in network(builder, size).state_dict().items()} for size in (32, 224)
    )
    return [key for key in {**small, **official} if small.get(key) != official.get(key) and not key.endswith(COUNTER)]


def adopted() -> Iterator[list[str]]:
    """Yield a line for each builder and source of foreign weights."""
    for builder, sources in RULES.items():
        other = misfits(builder)
        for source, rules in sources.items():
            how = f"{len(rules)} renamings" if len(rules) > 1 else "1 renaming" if rules else "the same names"
            more = f" and {len(other) - 1} more" if len(other) > 1 else ""
            yield [f"`{builder}`", source, how, f"no: `{other[0]}`{more}" if other else "yes"]


def history() -> Iterator[list[str]]:
    """Yield what the first course project prints, and what is counted here."""
    for name, printed, why in words.PRINTED:
        yield [f"`{name}`", printed, f"{catalogue.costs()[name].params / 1e6:.{_digits(printed)}f}", why]


def _digits(printed: str) -> int:
    return len(printed.partition(".")[2]) or 2


def page() -> str:
    """Return docs/models.md."""
    groups = "\n".join(f"- {listed(names)}" for names in twins())
    parts = [
        words.HEAD.format(count=len(catalogue.MODELS), builders=len(models.BUILDERS)),
        words.TABLE,
        *families(),
        words.TWINS.format(groups=groups),
        *parity(),
        words.WEIGHTS,
        table(words.WEIGHTS_HEAD, adopted()),
        words.WEIGHTS_EXAMPLE,
        words.HISTORY,
        table(words.HISTORY_HEAD, history()),
        words.HISTORY_END,
    ]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def points() -> list[Point]:
    """Return the networks as the picture shows them."""
    return [
        Point(name=name, family=model.family, params=catalogue.costs()[name].params, macs=catalogue.costs()[name].macs)
        for name, model in catalogue.MODELS.items()
    ]


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description="Write docs/models.md and docs/models.png.")
    about = "first run the oracles of these names, or all, into docs/parity.csv"
    parser.add_argument("--parity", metavar="NAME", nargs="*", help=about)
    names = parser.parse_args().parity
    if names is not None:
        measure(names)
    PAGE.write_text(page(), encoding="utf-8")
    save(zoo(points(), counted=words.COUNTED), PICTURE)


if __name__ == "__main__":
    main()
