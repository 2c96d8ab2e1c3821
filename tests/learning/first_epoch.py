"""Proof that every network learns: one epoch of real CIFAR-100 by its own card, and its loss falls.

    python -m tests.learning.first_epoch [NAME]... [--threads 1] [--append] --report FILE

Each name trains by its card, with one epoch of 5,000 images (2,500 above a thousand million MACs) in batches of 32, and
without what hides a network's own loss in so short a time (mixtures, label smoothing, policies, erasing, the average of
weights); the rate of SGD is in proportion to the smaller batch.
Reported are the mean loss of the first and of the last tenth of the steps, and the accuracy on held-out images; both
losses are of batches not seen before. The proof holds when every loss has fallen by 2 %.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bakeoff import catalogue
from bakeoff.recipe import resolve
from bakeoff.results.store import Run
from bakeoff.training import assembly, provenance
from bakeoff.training.evaluate import evaluate
from bakeoff.training.run import new_trainer
from bakeoff.training.signals import StopRequest

PLAIN = (
    "epochs=1", "ema_decay=0", "mixup=0", "cutmix=0", "label_smoothing=0", "augment.policy=none", "augment.erase=0",
    "compile=false", "device=cpu",
)  # fmt: skip
BATCH = 32


def settings(name: str) -> list[str]:
    """Return what of the model's card is changed."""
    card = resolve(name)
    scaled = [f"lr={card.optimizer.lr * BATCH / card.batch_size}"] if card.optimizer.name == "sgd" else []
    limit = 5000 if catalogue.costs()[name].macs < 1e9 else 2500
    return [*PLAIN, f"batch_size={BATCH}", f"data.limit={limit}", *scaled]


def first_epoch(name: str, *, threads: int) -> dict[str, Any]:
    """Train one epoch and tell how the loss went."""
    recipe = resolve(name, overrides=[*settings(name), f"threads={threads}"])
    share = assembly.load(recipe)
    parts = assembly.assemble(recipe, share, plugin=None, root=Path())
    with tempfile.TemporaryDirectory() as folder:
        trainer = new_trainer(recipe, Run(Path(folder)), share, parts, stop=StopRequest(), tell=lambda _: None)
        trainer.train_epoch()
    assert share.val is not None
    losses = trainer.position.losses
    tenth = max(1, len(losses) // 10)
    answers = evaluate(trainer.network, share.val, device=parts.device)
    return {
        "images": len(share.train),
        "steps": len(losses),
        "optimizer": recipe.optimizer.name,
        "lr": recipe.optimizer.lr,
        "first_loss": round(losses[:tenth].mean().item(), 3),
        "last_loss": round(losses[-tenth:].mean().item(), 3),
        "val_top1": round(float((answers.logits.argmax(1) == answers.label).mean()), 4),
        "val_images": len(share.val),
        "seconds": round(trainer.seconds, 1),
    }


def main(arguments: Sequence[str]) -> int:
    """Prove it for each name, writing the report after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(catalogue.MODELS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--append", action="store_true", help="keep what the report holds, and skip those names")
    parser.add_argument("--report", type=Path, required=True)
    chosen = parser.parse_args(arguments)
    device = assembly.place(resolve("resnet_20", overrides=[f"threads={chosen.threads}", "device=cpu"]))
    about = provenance.collect(device, command=["python", "-m", "tests.learning.first_epoch", *arguments])
    measured: dict[str, Any] = {}
    if chosen.append and chosen.report.exists():
        measured = json.loads(chosen.report.read_text(encoding="utf-8"))["measured"]
    for name in chosen.names:
        if name in measured:
            continue
        measured[name] = first_epoch(name, threads=chosen.threads)
        print(name, json.dumps(measured[name]), flush=True)
        text = json.dumps({"about": about, "measured": measured}, indent=1) + "\n"
        chosen.report.write_text(text, encoding="utf-8")
    fallen = [name for name in chosen.names if measured[name]["last_loss"] < 0.98 * measured[name]["first_loss"]]
    print(f"{len(fallen)} of {len(chosen.names)} losses have fallen by 2 %")
    return 0 if len(fallen) == len(chosen.names) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
