"""The pictures of a report, made from its numbers."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bakeoff.reports import canvas
from benchmarks.peers.task import MODULES, OURS

Found = Mapping[str, Any]


def colours(peers: Sequence[str]) -> dict[str, str]:
    """Return a colour a contestant, the same in all pictures: black for bakeoff."""
    others = [peer for peer in dict.fromkeys([*MODULES, *peers]) if peer != OURS]
    return {OURS: canvas.BLACK, **dict(zip(others, canvas.ARMS, strict=False))}


def panels(num: int, *, title: str, subtitle: str, height_in: float = 3.4) -> tuple[Figure, list[Axes]]:
    """Return a figure with so many panels side by side."""
    figure = canvas.blank(height_in=height_in)
    canvas.headline(figure, title, subtitle)
    axes = figure.subplots(1, num, squeeze=False)[0]
    figure.subplots_adjust(left=0.12, right=0.96, top=1 - 0.95 / height_in, bottom=0.5 / height_in, wspace=0.5)
    return figure, list(axes)


def bars(axes: Axes, values: Mapping[str, Found], *, label: str) -> None:
    """Draw a bar a contestant, with its range."""
    shown = {peer: of for peer, of in values.items() if of["n"]}
    own = colours(list(shown))
    for y, (peer, of) in enumerate(shown.items()):
        axes.barh(y, of["median"], color=own[peer], height=0.7)
        axes.plot([of["min"], of["max"]], [y, y], color=canvas.GREY, linewidth=1.5)
        axes.annotate(f" {of['median']:,.0f}", (of["max"], y), va="center", size=8)
    axes.set_yticks(range(len(shown)), list(shown), size=8)
    axes.invert_yaxis()
    axes.margins(x=0.2)
    axes.set_xlabel(label)


def speeds(title: str, model: str, classes: Found) -> Figure:
    """Draw images a second of all contestants, a panel a class."""
    with canvas.style():
        figure, axes = panels(
            len(classes), title=f"{title}: {model}", subtitle="Images a second: median and range of the rounds kept"
        )
        for panel, (way, found) in zip(axes, classes.items(), strict=True):
            bars(panel, {peer: of["images_per_s"] for peer, of in found["peers"].items()}, label="images/s")
            panel.set_title(way)
    return figure


def fixed(measured: Found) -> Figure:
    """Draw what remains with almost no network: cost a picture against cost a step."""
    with canvas.style():
        figure, axes = panels(
            len(measured), title="Fixed cost", subtitle="Beside a raw step of almost no network, on one thread"
        )
        for panel, (way, found) in zip(axes, measured.items(), strict=True):
            own = colours(list(found["peers"]))
            for peer, of in found["peers"].items():
                if "us_per_image" in of:
                    panel.scatter(of["us_per_image"], of["ms_per_step"], color=own[peer])
                    panel.annotate(f" {peer}", (of["us_per_image"], of["ms_per_step"]), size=8)
            panel.set(xlabel="us an image", ylabel="ms a step", title=way)
            panel.margins(x=0.4)
    return figure


def lines(axes: Axes, of: Mapping[str, Mapping[float, float]], *, x: str, y: str) -> None:
    """Draw a line a contestant, on logarithmic axes."""
    own = colours(list(of))
    for peer, points in of.items():
        axes.plot(list(points), list(points.values()), marker="o", markersize=3, color=own[peer], label=peer)
    axes.set(xlabel=x, ylabel=y, xscale="log", yscale="log")
    if of:
        axes.legend(fontsize=6, frameon=False)


def by_size(model: str, way: str, sizes: Found) -> Figure:
    """Draw how speed, start of an epoch and memory grow with the training set."""
    wanted = (
        ("images/s", lambda of: of["images_per_s"].get("median")),
        ("seconds until the first step", lambda of: of["until_first_step_s"].get("median")),
        ("peak GB", lambda of: of["peak_gb"]),
    )
    with canvas.style():
        figure, axes = panels(3, title=f"Size of the training set: {model}, {way}", subtitle="Medians")
        for panel, (label, get) in zip(axes, wanted, strict=True):
            points: dict[str, dict[float, float]] = {}
            for size, found in sizes.items():
                for peer, of in found["peers"].items():
                    if (value := get(of)) is not None:
                        points.setdefault(peer, {})[float(size)] = value
            lines(panel, points, x="pictures", y=label)
    return figure


def by_model(measured: Found, way: str) -> Figure:
    """Draw how many times as fast bakeoff is, network by network."""
    with canvas.style():
        figure, (axes,) = panels(1, title=f"How many times as fast bakeoff trains: {way}", subtitle="Medians of ratios")
        peers = list(dict.fromkeys(p for of in measured.values() for p in of.get(way, {"peers": {}})["peers"]))
        own = colours(peers)
        for peer in (peer for peer in peers if peer != OURS):
            found = [
                of.get(way, {"peers": {}})["peers"].get(peer, {}).get("times_as_fast", {}) for of in measured.values()
            ]
            points = [(x, of["median"]) for x, of in enumerate(found) if of.get("n")]
            axes.plot([x for x, _ in points], [y for _, y in points], marker="o", color=own[peer], label=peer)
        axes.axhline(1, color=canvas.GREY, linewidth=1)
        axes.set_xticks(range(len(measured)), list(measured))
        axes.set_ylabel("times")
        axes.legend(fontsize=7, frameon=False)
    return figure


def by_runs(measured: Found) -> Figure:
    """Draw how long several runs take."""
    with canvas.style():
        figure, axes = panels(
            len(measured),
            title="Several runs of resnet_20",
            subtitle="Seconds; whole: one after another, dashed: two at a time",
        )
        for panel, (way, numbers) in zip(axes, measured.items(), strict=True):
            peers = list(dict.fromkeys(peer for found in numbers.values() for peer in found["seconds"]))
            own = colours(peers)
            for peer in peers:
                for how, dashes in (("one after another", "-"), ("side by side", "--")):
                    points = {
                        int(num): min(found["seconds"][peer][how])
                        for num, found in numbers.items()
                        if found["seconds"].get(peer, {}).get(how)
                    }
                    label = peer if dashes == "-" else None
                    panel.plot(list(points), list(points.values()), dashes, marker="o", color=own[peer], label=label)
            panel.set(xlabel="runs", ylabel="seconds", title=way)
            panel.legend(fontsize=6, frameon=False)
    return figure


def drawn(measured: Found) -> Iterator[tuple[str, Figure]]:
    """Yield a name and a figure for everything that was measured."""
    for part in ("training", "evaluation"):
        for model, classes in measured.get(part, {}).items():
            yield f"{part}-{model}", speeds(part.capitalize(), model, classes)
    training = measured.get("training", {})
    if len(training) > 1:
        for way in dict.fromkeys(way for of in training.values() for way in of):
            yield f"growth-{way}", by_model(training, way)
    if measured.get("fixed"):
        yield "fixed", fixed(measured["fixed"])
    for model, classes in measured.get("data", {}).items():
        for way, sizes in classes.items():
            yield f"data-{model}-{way}", by_size(model, way, sizes)
    if measured.get("runs"):
        yield "runs", by_runs(measured["runs"])


def save(measured: Found, report: Path) -> None:
    """Write all figures beside the report."""
    for name, figure in drawn(measured):
        canvas.save(figure, report.with_name(f"{report.stem}-{name}.png"))
