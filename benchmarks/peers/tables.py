"""The tables of a report, made from its numbers."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Found = Mapping[str, Any]

UNMEASURED = "-"


def row(cells: Sequence[object]) -> str:
    """Return a row of a Markdown table."""
    return f"| {' | '.join(map(str, cells))} |"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Return a Markdown table: names to the left, numbers to the right."""
    return [row(head), row(["---", *["---:"] * (len(head) - 1)]), *map(row, rows), ""]


def number(value: float) -> str:
    """Return three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def figure(of: Found | None, *, form: str = "", times: float = 1.0) -> str:
    """Return `median (min to max, n)`, or a dash where nothing was kept."""
    if not of or not of["n"]:
        return UNMEASURED
    middle, low, high = (times * of[key] for key in ("median", "min", "max"))
    say = (lambda value: format(value, form)) if form else number
    return f"{say(middle)} ({say(low)} to {say(high)}, n={of['n']})"


def failures(of: Found) -> list[str]:
    """Return what is to be said of those that failed."""
    lines = [f"- {peer}: {words}" for peer, words in of.get("failures", {}).items()]
    return ["Left out:", "", *lines, ""] if lines else []


def contest(of: Found, *, workers: Found) -> list[str]:
    """Return the table of a contest in rounds."""
    head = ["", "images/s", "share of the raw step", "bakeoff is so many times as fast", "workers"]
    rows = [
        [
            peer,
            figure(found["images_per_s"]),
            figure(found["efficiency"], form=".1%"),
            "" if peer == "bakeoff" else figure(found["times_as_fast"], form=".2f"),
            workers.get(peer, 0),
        ]
        for peer, found in of["peers"].items()
    ]
    return table(head, rows) + failures(of)


def agreement(of: Found) -> list[str]:
    """Return what is to be said of the losses."""
    largest = of["largest_relative_difference"]
    held = ", ".join(f"{peer} {difference:.1e}" for peer, difference in largest.items())
    control = of.get("the_same_without_momentum")
    beside = f"; the same loop without momentum: {control:.1e}" if control is not None else ""
    if "one_rounding_beside" in of:
        beside += f"; bakeoff, begun one rounding beside: {of['one_rounding_beside']:.1e}"
    most = f"{of['tolerance']:.1e}".replace(".0e", "e")
    return [
        f"Largest relative difference from bakeoff's losses in {of['steps']} steps, {of['precision']} "
        f"(at most {most}): {held}{beside}.",
        "",
    ]


def in_rounds(title: str, measured: Found) -> Iterator[str]:
    """Yield the tables of training or evaluation."""
    for model, classes in measured.items():
        for way, found in classes.items():
            yield from (f"## {title}: {model}, {way}", "")
            if "agreement" in found:
                yield from agreement(found["agreement"])
            yield from contest(found, workers=found.get("workers", {}))


def fixed(measured: Found) -> Iterator[str]:
    """Yield the tables of the fixed cost."""
    for way, found in measured.items():
        yield from (f"## Fixed cost: {way}", "", "Beside a raw step of almost no network, on one thread.", "")
        rows = [
            [
                peer,
                number(of["us_per_image"]) if "us_per_image" in of else UNMEASURED,
                number(of["ms_per_step"]) if "ms_per_step" in of else UNMEASURED,
                figure(of["small_ms"]),
                figure(of["large_ms"]),
            ]
            for peer, of in found["peers"].items()
        ]
        yield from table(["", "us/image", "ms/step", "ms, batch of 32", "ms, batch of 512"], rows)
        yield from failures(found)


def new_processes(title: str, measured: Found, *, key: str, unit: str) -> Iterator[str]:
    """Yield the tables of start or memory."""
    for model, classes in measured.items():
        peers = list(dict.fromkeys(peer for found in classes.values() for peer in found["peers"]))
        yield from (f"## {title}: {model}, {unit}", "")
        rows = [
            [peer, *(figure(found["peers"].get(peer, {}).get(key)) for found in classes.values())] for peer in peers
        ]
        yield from table(["", *classes], rows)
        for found in classes.values():
            yield from failures(found)


def data(measured: Found) -> Iterator[str]:
    """Yield the tables of the sizes of training sets."""
    for model, classes in measured.items():
        for way, sizes in classes.items():
            yield from (f"## Size of the training set: {model}, {way}", "")
            rows = [
                [
                    peer,
                    f"{int(size):,}",
                    figure(of["images_per_s"]),
                    figure(of["until_first_step_s"]),
                    number(of["peak_gb"]),
                ]
                for size, found in sizes.items()
                for peer, of in found["peers"].items()
            ]
            yield from table(["", "pictures", "images/s", "seconds until the first step", "peak GB"], rows)
            for found in sizes.values():
                yield from failures(found)


def runs(measured: Found) -> Iterator[str]:
    """Yield the tables of the numbers of runs: the fastest time of each."""
    for way, numbers in measured.items():
        yield from (f"## Several runs of resnet_20: {way}, seconds", "")
        rows = {
            (peer, how): None
            for found in numbers.values()
            for peer, ways in found["seconds"].items()
            for how in ways
        }  # fmt: skip
        cells = [
            [f"{peer}, {how}", *(_fastest(found["seconds"].get(peer, {}).get(how)) for found in numbers.values())]
            for peer, how in rows
        ]
        yield from table(["", *(f"{num} {'run' if num == '1' else 'runs'}" for num in numbers)], cells)
        for found in numbers.values():
            yield from failures(found)


def _fastest(seconds: Sequence[float] | None) -> str:
    return f"{number(min(seconds))} (n={len(seconds)})" if seconds else UNMEASURED


def page(content: Found) -> str:
    """Return the whole report as Markdown."""
    about, measured = content["about"], content["measured"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    lines = [
        "# bakeoff beside its peers",
        "",
        f"`{' '.join(about['command'])}`, {about['started']}, commit {about['commit'][:9]}. {about['hardware']}; "
        f"{about['threads']} threads; {versions}. Python {about['python']}.",
        "",
        "Medians (range, number of rounds kept). What the classes and the parts are: benchmarks/peers/__init__.py.",
        "",
    ]
    lines += [f"Stopped in the part {name}: {words}\n" for name, words in about.get("stopped", {}).items()]
    parts = {
        "training": lambda found: in_rounds("Training", found),
        "evaluation": lambda found: in_rounds("Evaluation", found),
        "fixed": fixed,
        "start": lambda found: new_processes("First step", found, key="first_step_s", unit="seconds from the command"),
        "memory": lambda found: new_processes("Peak memory", found, key="peak_gb", unit="GB"),
        "data": data,
        "runs": runs,
    }
    for name, tables in parts.items():
        if name in measured:
            lines += tables(measured[name])
    return "\n".join(lines).rstrip() + "\n"
