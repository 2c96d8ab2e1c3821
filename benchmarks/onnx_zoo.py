"""Whether every network of the catalogue is the same in ONNX, on real pictures.

    python -m benchmarks.onnx_zoo [NAME]... [--images 1000] [--report FILE]

Goal: top-1 equal on all pictures but ties, logits within 1e-3 in float32, for every name.

Protocol: the network for CIFAR-100, its weights drawn from seed 0, then made as lively as a trained one's, since fresh
networks hide what they hold (scales of 0 and 1, means of 0, logits that hardly depend on the picture): every parameter
is moved by a random tenth of its spread, running statistics are those of 256 of the pictures, and the head is scaled so
that logits have mean 0 and deviation 3 over them. It is exported as `bakeoff export` does it, opset and preprocessing
included, and run by ONNX Runtime on the CPU. Pictures are those that protocol `dev` holds out from CIFAR-100's training
images, spread over them, as raw pixels in batches of 1, 7 and 500. Reference: the same network in torch, in float32,
normalised as in training.

Resumable: a name that stands in the report is not measured again, unless by another number of images. Written after
each network to benchmarks/reports/, as JSON with machine and versions, and beside it as a table.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bakeoff import catalogue, models
from bakeoff.data.images import ImageSet
from bakeoff.data.pixels import Normalise
from bakeoff.errors import BakeoffError, refuse_unknown
from bakeoff.recipe import resolve
from bakeoff.serving import agreement, onnx, program
from bakeoff.training import assembly, device, provenance

REPORTS = Path(__file__).parent / "reports"
MOVED = 0.1  # of a tensor's spread, or of 1 where it has none
SHOWN = 256  # pictures that running statistics and the head are fitted to
DEVIATION = 3.0  # of a logit


@torch.no_grad()
def lively(network: nn.Module, x: Tensor) -> nn.Module:
    """Make a fresh network depend on what it is shown as a trained one does.

    Args:
        network: of one linear layer as its head.
        x: float32 [b c h w], normalised pictures.
    """
    draws = torch.Generator().manual_seed(1)
    for p in network.parameters():
        spread = float(p.std()) if p.numel() > 1 else 0.0
        p.add_(MOVED * (spread if 0 < spread < 1 else 1.0) * torch.randn(p.shape, generator=draws))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    network.train()(x)
    logits = network.eval()(x)
    scale = DEVIATION / logits.std(0).mean()
    head = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    head.weight.mul_(scale)
    head.bias.sub_(logits.mean(0)).mul_(scale)
    return network


def held_out(num: int) -> tuple[ImageSet, agreement.Images]:
    """Return CIFAR-100's held-out images, and some of them, spread over the set."""
    val = assembly.load(resolve("resnet_20")).val
    assert val is not None
    return val, val.pixels(np.linspace(0, len(val) - 1, min(num, len(val))).round().astype(np.int64))


def measure(name: str, *, source: ImageSet, images: agreement.Images) -> dict[str, Any]:
    """Export one network and compare it with itself."""
    torch.manual_seed(0)
    network = models.build(name, num_classes=len(source.classes), image_size=source.shape[1]).eval()
    height, width = source.shape[1:]
    normalise = Normalise(source.mean, source.std, height=height, width=width, device=torch.device("cpu"))
    lively(network, normalise(torch.from_numpy(images[:SHOWN])))
    started = time.perf_counter()
    with TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        try:
            traced = program.trace(network, mean=source.mean, std=source.std, image_shape=source.shape)
            onnx.write(traced, path, about={"model": name})
            seconds = time.perf_counter() - started
            run = onnx.runner(path)
            expected = agreement.reference(network, images, mean=source.mean, std=source.std)
            checks = agreement.measure(run, images, expected)
        except BakeoffError as error:
            return {"num_images": len(images), "holds": False, "error": str(error)}
        return {
            "num_images": len(images),
            "holds": all(check.holds for check in checks),
            "max_abs_difference": max(check.max_abs_difference for check in checks),
            "top1_agreement": min(check.top1_agreement for check in checks),
            "ties": max(check.ties for check in checks),
            "classes_seen": len(np.unique(expected.argmax(1))),
            "largest_logit": float(np.abs(expected).max()),
            "deviation_of_logits": float(expected.std(0).mean()),
            "checks": [asdict(check) for check in checks],
            "export_s": round(seconds, 1),
            "bytes": path.stat().st_size,
        }


def table(report: Mapping[str, Any]) -> str:
    """Return the report as Markdown."""
    measured, about = report["measured"], report["about"]
    held = sum(row["holds"] for row in measured.values())
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    lines = [
        f"ONNX beside torch: {held} of {len(measured)} networks agree (opset {onnx.OPSET}; {versions}; "
        f"{about['hardware']}; {about['started'][:10]}; commit {about['commit'][:12]}).",
        "",
        "| network | images | largest difference | deviation of logits | same top-1 | ties | classes named | agrees |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for name, row in measured.items():
        if "error" in row:
            lines.append(f"| {name} | {row['num_images']:,} | | | | | | no: {row['error'].replace('|', '/')} |")
            continue
        lines.append(
            f"| {name} | {row['num_images']:,} | {row['max_abs_difference']:.1e} | {row['deviation_of_logits']:.2f} "
            f"| {row['top1_agreement']:.2%} | {row['ties']} | {row['classes_seen']} "
            f"| {'yes' if row['holds'] else 'no'} |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Measure what the report lacks; 1 where a network does not agree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(catalogue.MODELS))
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--report", type=Path, default=REPORTS / f"{datetime.now(UTC):%Y-%m-%d}-onnx-zoo.json")
    chosen = parser.parse_args(arguments)
    refuse_unknown("NAME", chosen.names, catalogue.MODELS)
    here = device.resolve(
        device="cpu", precision="float32", compile=False, threads=chosen.threads, deterministic=True,
        training_macs=lambda: 0.0,
    )  # fmt: skip
    about = provenance.collect(here, command=["python", "-m", "benchmarks.onnx_zoo", *arguments])
    about["versions"] |= onnx.versions()
    report: Path = chosen.report
    before = json.loads(report.read_text(encoding="utf-8"))["measured"] if report.exists() else {}
    source, images = held_out(chosen.images)
    for name in chosen.names:
        if before.get(name, {}).get("num_images") != len(images):
            before[name] = measure(name, source=source, images=images)
        content = {"about": about, "tolerance": agreement.TOLERANCE, "measured": before}
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        report.with_suffix(".md").write_text(table(content), encoding="utf-8")
        print(name, json.dumps(before[name]), flush=True)
    print(report.with_suffix(".md"))
    return 0 if all(row["holds"] for row in before.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
