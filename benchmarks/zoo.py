"""How fast every network of the zoo is, beside timm's own where it has one, and how much memory it takes.

    python -m benchmarks.zoo [NAME]... [--peers] [--report FILE] [--rounds 5] [--seconds 0.6] [--batch 32]

Goal: nowhere slower than timm's network of the same shape: ratio of images a second >= 0.97, training and evaluating,
in bf16 channels-last and in float32 in torch's own layout.

Protocol: both networks in one process, the same small form for 32-pixel pictures, 10 classes, nothing else running.
A round is ours, theirs, theirs, ours, each for some steps; its ratio is of the two sums, so that a machine that drifts
favours neither. A round in which one of the two differs from itself by more than 10 % is dropped (where all are, none
is, and `rounds_kept` is 0). Reported: median of the ratios, and of images a second. A training step is forward pass,
cross-entropy and backward pass; the optimizer's part is the same for both. Peak memory is that of a fresh process that
takes two training steps, less what it takes before. Networks of equal fingerprint are measured once. Written to
benchmarks/reports/, with machine and versions.
"""

import argparse
import json
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import nn

from bakeoff import catalogue, models
from bakeoff.models.cost import fingerprint
from bakeoff.training import device, provenance
from benchmarks import written
from benchmarks.rounds import alike
from tests.reference.oracles import coatnet, convnext, cspresnet, ghostnet, gmlp, mlp_mixer, resnest

CLASSES = 10


def timm_resnet(depth: int) -> nn.Module:
    """Make timm's ResNet with the stem for small pictures."""
    network: nn.Module = timm.create_model(f"resnet{depth}", num_classes=CLASSES)
    network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    network.maxpool = nn.Identity()
    return network


# The peers, as tests/reference compares them with ours.
PEERS: dict[str, Callable[[], nn.Module]] = {
    "resnet18": partial(timm_resnet, 18),
    "resnet34": partial(timm_resnet, 34),
    "resnet50": partial(timm_resnet, 50),
    "ghostnet_100": partial(ghostnet.theirs, stem="small"),
    "convnext_atto": partial(convnext.theirs, "convnext_atto", library="timm", stem="small"),
    "convnext_nano": partial(convnext.theirs, "convnext_nano", library="timm", stem="small"),
    "convnext_tiny": partial(convnext.theirs, "convnext_tiny", library="timm", stem="small"),
    "cspresnet50": partial(cspresnet.theirs, stem="small"),
    "resnest14d": partial(resnest.theirs, 14, stem="small"),
    "resnest50d": partial(resnest.theirs, 50, stem="small"),
    "mlp_mixer_tiny": partial(mlp_mixer.theirs, 192, 12),
    "mlp_mixer_b16": partial(mlp_mixer.theirs, 768, 12),
    "gmlp_tiny": gmlp.theirs,
    "coatnet_0": partial(coatnet.theirs, image_size=32, small=True, lsk=False),
}


def prepared(network: nn.Module) -> nn.Module:
    """Give every tensor ordinary numbers: networks come from the meta device, and denormals are slow."""
    for name, p in network.named_buffers():
        if "offset" not in name and "index" not in name and p.is_floating_point():
            nn.init.ones_(p)
    for module in network.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
        for p in module.parameters(recurse=False):
            if not hasattr(module, "reset_parameters"):
                nn.init.normal_(p, std=0.02)
    return network


def step(network: nn.Module, *, batch: int, precision: str, training: bool) -> Callable[[], None]:
    """Return the work to be timed: one batch of random pictures, forwards, and backwards when training."""
    half = precision == "bf16"
    layout = torch.channels_last if half else torch.contiguous_format
    network = network.to(memory_format=layout).train(training)
    x = torch.randn(batch, 3, 32, 32).to(memory_format=layout)
    y = torch.randint(CLASSES, (batch,))

    def work() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=half), torch.set_grad_enabled(training):
            logits = network(x)
        if training:
            F.cross_entropy(logits.float(), y).backward()
            network.zero_grad(set_to_none=True)

    return work


def timed(work: Callable[[], None], *, steps: int) -> float:
    """Return seconds a step."""
    started = time.perf_counter()
    for _ in range(steps):
        work()
    return (time.perf_counter() - started) / steps


def compare(name: str, *, rounds: int, seconds: float, batch: int, precision: str, training: bool) -> dict[str, Any]:
    """Measure ours, and theirs where there is one, in turns."""
    torch.manual_seed(0)
    arms = [models.build(name, num_classes=CLASSES)]
    arms += [prepared(PEERS[name]())] if name in PEERS else []
    works = [step(network, batch=batch, precision=precision, training=training) for network in arms]
    slowest = max(timed(work, steps=1) + timed(work, steps=1) for work in works) / 2  # both are warm now
    steps = max(1, round(seconds / slowest))
    order = [works[0], works[-1], works[-1], works[0]]
    times = [[timed(work, steps=steps) for work in order] for _ in range(rounds)]
    calm = [(a, b, c, d) for a, b, c, d in times if alike(a, d) and alike(b, c)]
    ours, theirs = [a + d for a, _, _, d in calm or times], [b + c for _, b, c, _ in calm or times]
    result: dict[str, Any] = {
        "images_per_s": round(2 * batch / statistics.median(ours), 1),
        "steps": 2 * steps,
        "rounds_kept": len(calm),
    }
    if name in PEERS:
        ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
        result["timm_images_per_s"] = round(2 * batch / statistics.median(theirs), 1)
        result["ratio"] = round(statistics.median(ratios), 3)
        result["ratios"] = [round(ratio, 3) for ratio in sorted(ratios)]
    return result


def peak(make: Callable[[], nn.Module], *, batch: int, precision: str) -> float:
    """Return MB that two training steps add to a fresh process."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    work = step(prepared(make()), batch=batch, precision=precision, training=True)
    work()
    work()
    return round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, 1)


def _send(pipe: Connection, function: Callable[..., Any], threads: int, arguments: dict[str, Any]) -> None:
    device.resolve(
        device="cpu", precision="float32", compile=False, threads=threads, deterministic=True,
        training_macs=lambda: 0.0,
    )  # fmt: skip
    pipe.send(function(**arguments))


def apart(function: Callable[..., Any], threads: int, **arguments: object) -> Any:  # noqa: ANN401 - whatever it returns
    """Call a function in a process of its own, set up as a run is."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=_send, args=(theirs, function, threads, arguments))
    process.start()
    theirs.close()
    result = ours.recv()
    process.join()
    return result


def measure(name: str, *, rounds: int, seconds: float, batch: int, threads: int) -> dict[str, Any]:
    """Measure one network in both precisions, training and evaluating, and its memory."""
    found: dict[str, Any] = {}
    for precision in ("bf16", "float32"):
        for mode in ("train", "eval"):
            arguments = {"rounds": rounds, "seconds": seconds, "batch": batch, "precision": precision}
            found[f"{precision}_{mode}"] = apart(compare, threads, name=name, training=mode == "train", **arguments)
        memory = {"ours": partial(models.build, name, num_classes=CLASSES)}
        memory |= {"timm": PEERS[name]} if name in PEERS else {}
        found[f"{precision}_peak_mb"] = {
            who: apart(peak, threads, make=make, batch=batch, precision=precision) for who, make in memory.items()
        }
    return found


def distinct(names: Sequence[str]) -> dict[str, str]:
    """Return each name with the first that is the same network."""
    first: dict[str, str] = {}
    same = {}
    for name in names:
        with torch.device("meta"):
            network = models.build(name, num_classes=CLASSES)
        same[name] = first.setdefault(fingerprint(network, (3, 32, 32)), name)
    return same


def main(arguments: Sequence[str]) -> None:
    """Measure, print and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(catalogue.MODELS))
    parser.add_argument("--peers", action="store_true", help="only the names that timm has as well")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.6, help="length of one segment, about")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--report", type=Path, default=written.dated("zoo"))
    chosen = parser.parse_args(arguments)
    here = device.resolve(
        device="cpu", precision="bf16", compile=False, threads=chosen.threads, deterministic=True,
        training_macs=lambda: 0.0,
    )  # fmt: skip
    about = provenance.collect(here, command=["python", "-m", "benchmarks.zoo", *arguments])
    report = chosen.report
    measured: dict[str, Any] = {}
    settings = {"rounds": chosen.rounds, "seconds": chosen.seconds, "batch": chosen.batch, "threads": chosen.threads}
    names = [name for name in chosen.names if name in PEERS or not chosen.peers]
    for name, first in distinct(names).items():
        measured[name] = {"same_as": first} if first != name else measure(name, **settings)
        print(name, json.dumps(measured[name]), flush=True)
        written.write(report, about=about, measured=measured, indent=1)
    print(report)


if __name__ == "__main__":
    main(sys.argv[1:])
