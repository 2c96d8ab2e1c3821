"""The verb that says how fast networks are on this machine, and how much of it they use."""

import csv
import fnmatch
import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bakeoff import catalogue
from bakeoff.cli import options, pictures, screen
from bakeoff.cli.options import Json
from bakeoff.errors import BakeoffError, RecipeError, refuse_unknown

if TYPE_CHECKING:
    from bakeoff.training.device import Device
    from bakeoff.training.speed import Protocol, Speed

ONLY = ("train", "inference")
PRECISIONS = ("auto", "float32", "bf16")
DEVICES = ("auto", "cpu", "cuda", "mps")

_log = logging.getLogger(__name__)


class _Results:
    """What is known so far: how fast each network is, or why nobody knows; what the machine could do after each."""

    def __init__(self) -> None:
        self.speeds: list[Speed] = []
        self.peaks: list[float] = []
        self.errors: dict[str, BakeoffError] = {}
        self.interrupted = False

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A row a network, held to the best that the machine has shown."""
        return [found.content(peak=max(self.peaks)) for found in self.speeds]


def benchmark(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...", help="Names or patterns of bakeoff list models, timm:NAME, package.module:fn."
        ),
    ],
    batch: Annotated[int, typer.Option("--batch", min=1, help="Pictures a step.")] = 128,
    image_size: Annotated[int, typer.Option("--image-size", min=1, help="Their height and width in pixels.")] = 32,
    classes: Annotated[int, typer.Option("--classes", min=1, help="Classes to tell apart.")] = 100,
    seconds: Annotated[float, typer.Option("--seconds", min=0.001, help="How long a measurement takes, about.")] = 2.0,
    only: Annotated[str | None, typer.Option("--only", help="train or inference; default: both.")] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")] = "auto",
    precision: Annotated[str, typer.Option("--precision", help="auto, float32 or bf16, as in training.")] = "auto",
    compiled: Annotated[bool, typer.Option("--compile", help="Compile each network first.")] = False,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Of the CPU; default: one a core.")] = None,
    out: Annotated[Path | None, typer.Option("--csv", help="Write timm's columns to this new CSV, too.")] = None,
    as_json: Json = False,
) -> None:
    """Measure networks on this machine: images a second, latency, memory, and the share of the machine they use.

    Pictures are noise, weights are fresh, steps are those of training: docs/benchmark.md. Ctrl-C shows what is done.

    [dim]bakeoff benchmark resnet_20 'convnext*'[/]
    [dim]bakeoff benchmark resnet18 timm:resnet26d --only inference --csv speed.csv[/]
    """
    for option, value, known in (("--device", device, DEVICES), ("--precision", precision, PRECISIONS)):
        refuse_unknown(option, [value], known)
    refuse_unknown("--only", [only] if only else [], ONLY)
    if out is not None and out.exists():
        raise RecipeError("--csv", found=f"'{out}', which exists", expected="a new file")
    names = _names(models)
    from bakeoff.recipe import Recipe
    from bakeoff.training import device as devices
    from bakeoff.training import speed

    place = devices.resolve(
        device=device,
        precision=precision,
        compile=compiled,
        threads=threads or "auto",
        deterministic=Recipe().deterministic,
        training_macs=lambda: 0.0,
    )
    if place.note:
        _log.warning(place.note)
    protocol = speed.Protocol(
        batch_size=batch,
        image_size=image_size,
        num_classes=classes,
        seconds=seconds,
        train=only != "inference",
        infer=only != "train",
    )
    about, results = _about(protocol, place), _Results()
    with _until_interrupted(results):
        _measure(names, protocol, place=place, out=out, results=results)
    about["peak"] |= {"macs_per_s": max(results.peaks, default=None), "looks": results.peaks}
    _conclude(results, about, out=out, as_json=as_json)


def _names(asked: Sequence[str]) -> list[str]:
    """Return what is to be measured, each once; what nobody knows is refused before anything is.

    Raises:
        RecipeError: a name that there is not, or a pattern that none fits.
    """
    found: list[str] = []
    for name in asked:
        if name.startswith(catalogue.TIMM):
            from bakeoff.models import timm

            timm.require(name.removeprefix(catalogue.TIMM))
            found.append(name)
        elif catalogue.is_plugin(name):
            options.allow_plugin(name)
            found.append(name)
        elif set(name) & set("*?["):
            fit = [known for known in catalogue.MODELS if fnmatch.fnmatchcase(known.lower(), name.lower())]
            if not fit:
                raise RecipeError("model.name", found=f"'{name}', which fits none", expected="a name of bakeoff list")
            found += fit
        else:
            found.append(catalogue.find(name).name)
    return list(dict.fromkeys(found))


@contextmanager
def _until_interrupted(results: _Results) -> Iterator[None]:
    """Keep what was found before Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt:
        results.interrupted = True


def _measure(
    names: Sequence[str], protocol: "Protocol", *, place: "Device", out: Path | None, results: _Results
) -> None:
    """Measure one network after the other; one that fails does not stop the others."""
    from bakeoff.results.files import write_atomically
    from bakeoff.training import speed

    with pictures.counting("networks") as tell:
        for done, name in enumerate(names):
            tell(done, len(names))
            _log.info("Measuring %s, %d of %d.", name, done + 1, len(names))
            try:
                found = speed.measure(name, protocol, device=place)
            except BakeoffError as error:
                _log.info("%s", error)
                results.errors[name] = error
                continue
            results.peaks.append(speed.peak_macs_per_s(place, seconds=protocol.seconds))
            results.speeds.append(found)
            if out is not None:
                write_atomically(out, timm_csv(results.rows, protocol).encode())


def _about(protocol: "Protocol", place: "Device") -> dict[str, Any]:
    """Return what all rows have in common: the machine, and how it was measured."""
    from bakeoff.training import provenance, speed

    width = speed.peak_width(place.kind)
    return {
        "machine": {**provenance.collect(place, command=provenance.command_line()), "layout": "channels last"},
        "protocol": {
            "batch_size": protocol.batch_size,
            "image_shape": list(protocol.image_shape),
            "num_classes": protocol.num_classes,
            "seconds": protocol.seconds,
        },
        "peak": {"by": f"a product of two {width} x {width} matrices in {place.precision}"},
    }


def timm_csv(rows: Sequence[Mapping[str, Any]], protocol: "Protocol") -> str:
    """Return rows in the columns and units of timm's benchmark.py: ms, G, M; more digits, since networks are small.

    Args:
        rows: as `Speed.content` gives them.
        protocol: by which they were measured.
    """
    text = io.StringIO()
    table = [_timm_row(row, protocol) for row in rows]
    writer = csv.DictWriter(text, fieldnames=list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()


def _timm_row(row: Mapping[str, Any], protocol: "Protocol") -> dict[str, Any]:
    def timing(part: str) -> dict[str, Any]:
        return {
            f"{part}_samples_per_sec": round(row[part]["images_per_s"], 2),
            f"{part}_step_time": round(row[part]["step_ms"], 3),
            f"{part}_batch_size": protocol.batch_size,
            f"{part}_img_size": protocol.image_size,
        }

    found = {"model": row["name"]}
    if "infer" in row:
        costs = {"infer_gmacs": _over(row["macs"], 1e9), "infer_macts": _over(row["activations"], 1e6)}
        found |= timing("infer") | costs
    if "train" in row:
        found |= timing("train")
    return found | {"param_count": _over(row["params"], 1e6)}


def _over(count: int | None, unit: float) -> float | None:
    return None if count is None else round(count / unit, 9)


def _conclude(results: _Results, about: Mapping[str, Any], *, out: Path | None, as_json: bool) -> None:
    """Print what was found, and end with the code that it deserves."""
    errors = list(results.errors.values())
    if len(errors) == 1 and not results.speeds and not results.interrupted:
        raise errors[0]
    if as_json:
        failed = [
            {"name": name, "kind": type(error).__name__, "message": str(error)}
            for name, error in results.errors.items()
        ]
        screen.print_json({**about, "models": results.rows, "failed": failed, "interrupted": results.interrupted})
    else:
        _print(results, about, out=out)
    if results.interrupted:
        raise KeyboardInterrupt
    if not results.speeds:
        raise typer.Exit(errors[0].exit_code)


def _print(results: _Results, about: Mapping[str, Any], *, out: Path | None) -> None:
    """Print a table for training and one for inference, what failed, and how all of it was measured."""
    console, protocol, machine = screen.console(), about["protocol"], about["machine"]
    for part, title in (("train", "training"), ("infer", "inference")):
        if rows := [_row(row, part) for row in results.rows if part in row]:
            screen.print_rows(f"{title}, {protocol['batch_size']} pictures a step: {len(rows)}", rows)
    if results.errors:
        rows = [
            {"name": name, "reason": f"{error.found}; expected {error.expected}"}
            for name, error in results.errors.items()
        ]
        screen.print_rows(f"not measured: {len(rows)}", rows)
    compiled = "compiled" if machine["compiled"] else "not compiled"
    shape = "x".join(map(str, protocol["image_shape"]))
    peak = about["peak"]
    lines = {
        "machine": f"{machine['hardware']}; threads: {machine['threads']}; torch {machine['versions']['torch']}",
        "network": f"{machine['precision']}, {machine['layout']}, {compiled}; pictures of {shape}, "
        f"{protocol['num_classes']} classes",
    }
    if results.speeds:
        lines["numbers"] = "medians, with the slowest and the fastest repeat"
        best, worst = (f"{look(peak['looks']) / 1e9:,.0f}" for look in (max, min))
        looks = f"the best of {len(peak['looks'])} looks, one a network; worst {worst}"
        lines["peak"] = f"{best} GMAC/s in {peak['by']} ({looks})"
    if out is not None and results.speeds:
        lines["table"] = str(out)
    for key, value in lines.items():
        console.print(f"  {key:<8} {value}", markup=False)


def _row(row: Mapping[str, Any], part: str) -> dict[str, Any]:
    """Return the line of one network in the table of training or inference."""
    found = row[part]
    kept = ("images_per_s", "least_images_per_s", "most_images_per_s", "step_ms", "share_of_peak", "memory_mb")
    line = {"name": row["name"]}
    if part == "train":
        line |= {"params_m": _over(row["params"], 1e6), "macs_g": _over(row["macs"], 1e9)}
    line |= {key: found[key] for key in kept}
    if part == "infer":
        line |= {"single_ms": row["single"]["median_ms"], "single_p95_ms": row["single"]["p95_ms"]}
    return line
