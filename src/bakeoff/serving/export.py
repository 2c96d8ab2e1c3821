"""A finished run's network for other programs, kept only if it answers as the network does, on real pictures.

All files are made and compared in a folder aside, which appears under its name whole or not at all.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from secrets import token_hex
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

import bakeoff
from bakeoff.errors import BakeoffError, DataError, RecipeError, VerificationFailed, refuse_unknown
from bakeoff.results.files import storage_errors, sync_folder, write_atomically
from bakeoff.serving import agreement, onnx, program
from bakeoff.serving.agreement import Agreement, Images, Logits, Runner
from bakeoff.training import assembly, weights
from bakeoff.training.trained import Trained

FILES = {"safetensors": "model.safetensors", "onnx": "model.onnx", "program": "model.pt2"}
INT8, VERDICT = "model.int8.onnx", "verify.json"
CALIBRATION = 256  # training images whose activations span the ranges of int8


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """What an export is compared with.

    Args:
        split: where the pictures are from; train only where the run held none out.
        images: real pictures, as decoded.
        labels: int64 [n], their classes.
        logits: the network's own, in float32.
        calibration: training images, for int8.
    """

    split: Literal["val", "train"]
    images: Images
    labels: NDArray[np.int64]
    logits: Logits
    calibration: Images


def export(
    model: Trained,
    folder: Path,
    *,
    formats: Sequence[str] = tuple(FILES),
    int8: bool = False,
    num_images: int = 1000,
    plugin: str | None = None,
) -> dict[str, Any]:
    """Write a network in each format, and beside them the figures of how well they agree with it.

    Args:
        model: on the CPU.
        folder: a new one, or an empty one.
        formats: of `FILES`.
        int8: quantize the ONNX file too.
        num_images: how many pictures to compare on, at most.
        plugin: the `package.module:function` that may be imported as its network.

    Returns:
        What stands in verify.json.

    Raises:
        RecipeError: an unknown format, a folder with something in it, or a package that is not installed.
        DataError: the run's pictures are no longer those that it was trained on.
        VerificationFailed: a file does not agree; nothing is left of the export.
        StorageError: the disk refused.
        BakeoffError: the network does what a format has no words for.
    """
    folder = folder.resolve()  # "." has no name to stand aside of
    check(folder, formats=formats, int8=int8)
    evidence = _evidence(model, num_images=num_images)
    aside = folder.with_name(f".{token_hex(8)}")
    with storage_errors(folder):
        aside.mkdir(parents=True)
        try:
            verdict = _fill(aside, model, evidence, formats=formats, int8=int8, plugin=plugin)
            write_atomically(aside / VERDICT, (json.dumps(verdict, indent=2, ensure_ascii=False) + "\n").encode())
            aside.rename(folder)  # refuses a folder with anything in it
            sync_folder(folder.parent)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return verdict


def check(folder: Path, *, formats: Sequence[str], int8: bool) -> None:
    """Refuse what cannot end well before anything is loaded.

    Raises:
        RecipeError: as `export`.
    """
    refuse_unknown("--format", formats, FILES)
    if not formats:
        raise RecipeError("--format", found="no format", expected=f"some of {', '.join(FILES)}")
    if int8 and "onnx" not in formats:
        raise RecipeError("--int8", found=f"--format {','.join(formats)}", expected="onnx among them: it is quantized")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RecipeError(
            str(folder),
            found="something there already",
            expected="a new folder: an export is never overwritten",
            hint="Remove it, or name another by --out.",
        )
    if "onnx" in formats:
        onnx.require()


def _evidence(model: Trained, *, num_images: int) -> Evidence:
    """Read pictures that the run held out, and ask the network itself about them."""
    share = assembly.load(model.recipe)
    split: Literal["val", "train"] = "train" if share.val is None else "val"
    held = share.train if share.val is None else share.val
    if model.run.read_json(model.run.split_path) != share.split:
        # What is held out now could be what it was trained on.
        raise DataError(
            str(model.run.split_path), found="other data than the run's now are", expected="the data it was trained on"
        )
    index = _spread(len(held), num_images)
    images = held.pixels(index)
    return Evidence(
        split=split,
        images=images,
        labels=held.labels[index],
        logits=agreement.reference(model.network, images, mean=model.mean, std=model.std),
        calibration=share.train.pixels(_spread(len(share.train), CALIBRATION)),
    )


def _spread(total: int, num: int) -> NDArray[np.int64]:
    """Return `num` places, or all, spread over a set that may be sorted by class."""
    return np.linspace(0, total - 1, min(num, total)).round().astype(np.int64)


def _fill(
    folder: Path, model: Trained, evidence: Evidence, *, formats: Sequence[str], int8: bool, plugin: str | None
) -> dict[str, Any]:
    """Write and verify each file, and return the verdict."""
    digest = weights.digest(model.network.state_dict())
    verdict: dict[str, Any] = {
        "run": model.run.folder.name,
        "run_digest": model.recipe.digest,
        "model": model.recipe.model.name,
        "weights_sha256": digest,
        "images": {"data": model.recipe.data.name, "split": evidence.split, "num_images": len(evidence.images)},
        "tolerance": {
            "max_abs_difference": agreement.TOLERANCE,
            "top1": "equal, but where the network's own logits of the two classes are as close as that",
        },
        "network_top1": agreement.accuracy(evidence.logits, evidence.labels),
        "versions": {"bakeoff": bakeoff.__version__, "torch": str(torch.__version__)},
        "formats": {},
    }
    traced = cache(lambda: program.trace(model.network, mean=model.mean, std=model.std, image_shape=model.image_shape))
    for name in FILES:  # in this order, however they were asked for
        if name not in formats:
            continue
        path, more = folder / FILES[name], {}
        with _failing(path):
            if name == "safetensors":
                run = _copy(model, path, plugin=plugin)
            elif name == "program":
                program.write(traced(), path)
                run = program.runner(path)
            else:
                onnx.write(traced(), path, about=_about(model, digest=digest))
                run, more = onnx.runner(path), {"opset": onnx.opset(path)}
                verdict["versions"] |= onnx.versions()
            verdict["formats"][name] = _verified(path, run, evidence) | more
    if int8:
        with _failing(folder / INT8):
            verdict["int8"] = _quantized(folder, evidence)
    return verdict


@contextmanager
def _failing(path: Path) -> Iterator[None]:
    """Turn what a library raises of a file that it cannot check, open or run into a failed verification."""
    try:
        yield
    except (BakeoffError, OSError):
        raise
    except Exception as error:
        said = " ".join(str(error).split())[:300]
        raise VerificationFailed(
            f"export of {path.name}",
            found=f"a file that does not work ({type(error).__name__}: {said})",
            expected="one that runs, for batches of any size",
            hint="Nothing was kept.",
        ) from error


def _verified(path: Path, run: Runner, evidence: Evidence) -> dict[str, Any]:
    """Compare what a file answers with what the network does.

    Raises:
        VerificationFailed: they differ.
    """
    checks = agreement.measure(run, evidence.images, evidence.logits)
    worst = max(checks, key=lambda check: check.max_abs_difference)
    found = _file(path) | {
        "max_abs_difference": worst.max_abs_difference,
        "top1_agreement": min(check.top1_agreement for check in checks),
        "num_images": len(evidence.images),
        "checks": [asdict(check) | {"top1_agreement": check.top1_agreement} for check in checks],
    }
    for check in checks:
        if not check.holds:
            raise VerificationFailed(
                f"export of {path.name}",
                found=_figures(check),
                expected=f"none off by more than {agreement.TOLERANCE:g}, and the same top-1 but for ties",
                hint="Nothing was kept.",
            )
    return found


def _figures(check: Agreement) -> str:
    """Return how far a check failed, as a person reads it."""
    return (
        f"logits off by up to {check.max_abs_difference:.3g} and the same top-1 for {check.same_top1:,} of "
        f"{check.num_images:,} images in batches of {check.batch_size}"
    )


def _copy(model: Trained, path: Path, *, plugin: str | None) -> Runner:
    """Copy the chosen weights with their card, read them again, and return the network that is built from them."""
    write_atomically(path, model.run.weights("best").read_bytes())
    state, card = weights.read(path, device=torch.device("cpu"))
    network = assembly.build(
        model.recipe, num_classes=card["num_classes"], image_shape=tuple(card["image_shape"]), plugin=plugin
    )
    network.load_state_dict(state)
    network.eval()

    def run(images: Images) -> Logits:
        return agreement.reference(network, images, mean=tuple(card["mean"]), std=tuple(card["std"]))

    return run


def _quantized(folder: Path, evidence: Evidence) -> dict[str, Any]:
    """Write the int8 form, and tell what it costs in accuracy: it is held to no tolerance."""
    path = folder / INT8
    onnx.quantize(folder / FILES["onnx"], path, images=evidence.calibration)
    logits = agreement.shown(onnx.runner(path), evidence.images)
    if not np.isfinite(logits).all():
        raise ValueError("its logits are no finite numbers")
    against = agreement.compare(logits, evidence.logits, batch_size=len(logits))
    return _file(path) | {
        "top1": agreement.accuracy(logits, evidence.labels),
        "network_top1": agreement.accuracy(evidence.logits, evidence.labels),
        "top1_agreement": against.top1_agreement,
        "max_abs_difference": against.max_abs_difference,
        "num_images": against.num_images,
        "calibration": {"split": "train", "num_images": len(evidence.calibration)},
    }


def _file(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    return {"file": path.name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _about(model: Trained, *, digest: str) -> Mapping[str, Any]:
    """Return what a user of the file has to know, as its metadata."""
    channels, height, width = model.image_shape
    colour = "grey" if channels == 1 else "RGB"
    return {
        "input": f"raw pixels, uint8 [batch {height} {width} {channels}], {colour}, 0 to 255; normalised inside",
        "output": "logits, float32 [batch classes]; softmax gives probabilities",
        "precision": "float32",
        "classes": list(model.classes),
        "image_size": [height, width],
        "fit": model.fit,
        "mean": list(model.mean),
        "std": list(model.std),
        "model": model.recipe.model.name,
        "data": model.recipe.data.name,
        "run_digest": model.recipe.digest,
        "weights_sha256": digest,
        "producer": f"bakeoff {bakeoff.__version__}",
    }
