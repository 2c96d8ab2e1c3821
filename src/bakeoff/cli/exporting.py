"""The verb that hands a trained network to other programs."""

from pathlib import Path
from typing import Annotated, Any

import typer

from bakeoff.cli import options, screen, words
from bakeoff.cli.options import LOGS, Json, Root

EXAMPLE = "bakeoff export logs/resnet_20/first"


def export(
    arguments: Annotated[list[str], typer.Argument(metavar="RUN", help="A run's folder or name.")],
    formats: Annotated[
        str, typer.Option("--format", help="Some of safetensors, onnx and program, with commas.")
    ] = "safetensors,onnx,program",
    int8: Annotated[
        bool, typer.Option("--int8", help="ONNX in 8 bits too, calibrated on training images; its accuracy is told.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", help="A new folder; default: export/ in the run's.")] = None,
    images: Annotated[int, typer.Option("--images", min=1, help="Validation images to verify on, at most.")] = 1000,
    root: Root = LOGS,
    as_json: Json = False,
) -> None:
    """Write a run's network as safetensors, ONNX and ExportedProgram, each verified on real images before it is kept.

    ONNX and ExportedProgram take raw pixels, uint8: batch, height, width, channels. Normalisation is inside.

    [dim]bakeoff export logs/resnet_20/first[/]
    [dim]bakeoff export first --format onnx --int8[/]
    """
    from bakeoff.results import store
    from bakeoff.serving import export as serving
    from bakeoff.training import trained

    names, settings = words.split(arguments)
    run = store.find(words.one(names, "run", EXAMPLE), root=root)
    plugin = options.only_plugin(settings)
    folder = out or run.folder / "export"
    wanted = list(dict.fromkeys(name.strip() for name in formats.split(",") if name.strip()))
    serving.check(folder, formats=wanted, int8=int8)
    model = trained.load(run, plugin=plugin, device="cpu")
    verdict = serving.export(model, folder, formats=wanted, int8=int8, num_images=images, plugin=plugin)
    if as_json:
        screen.print_json({"folder": str(folder), **verdict})
    else:
        _print(verdict, folder)


def _print(verdict: dict[str, Any], folder: Path) -> None:
    """Print a line a file, what they were held to, and where they are."""
    console, seen = screen.console(), verdict["images"]
    rows = [_row(name, found) for name, found in verdict["formats"].items()]
    if "int8" in verdict:
        rows.append(_row("onnx, int8", verdict["int8"]))
    screen.print_rows(f"{verdict['model']} ({verdict['run']}): {len(rows)} files", rows)
    sizes = ", ".join(str(size) for size in _batch_sizes(verdict))
    where = "validation" if seen["split"] == "val" else "training"
    console.print(
        f"  verified on {seen['num_images']:,} {where} images of {seen['data']} in batches of {sizes}: no logit off by "
        f"more than {verdict['tolerance']['max_abs_difference']:g}",
        markup=False,
    )
    if "int8" in verdict:
        int8 = verdict["int8"]
        console.print(
            f"  int8     {int8['top1']:.2%} top-1, the network itself {int8['network_top1']:.2%}", markup=False
        )
    console.print(f"  folder   {folder}/", markup=False)
    console.print(f"  figures  {folder / 'verify.json'}", markup=False)


def _row(name: str, found: dict[str, Any]) -> dict[str, str]:
    return {
        "format": name,
        "file name": found["file"],
        "size (KB)": f"{found['bytes'] / 1000:,.0f}",
        "largest difference": f"{found['max_abs_difference']:.1e}",
        "same top-1": f"{found['top1_agreement']:.2%}",
    }


def _batch_sizes(verdict: dict[str, Any]) -> list[int]:
    first = next(iter(verdict["formats"].values()))
    return sorted({check["batch_size"] for check in first["checks"]})
