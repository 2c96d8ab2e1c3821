"""The leaderboard for other programs: CSV in the columns of timm's result tables, and a summary for JSON."""

import csv
import io
import math
from collections.abc import Mapping
from typing import Any

from bakeoff.catalogue import DATASETS
from bakeoff.recipe import Recipe
from bakeoff.reports import formats, tables
from bakeoff.results.comparison import ArmScore, Comparison

# Source: results/results-imagenet.csv of huggingface/pytorch-image-models: per cent to 3 decimals, millions to 2.
TIMM = ("model", "img_size", "top1", "top1_err", "top5", "top5_err", "param_count", "crop_pct", "interpolation")
OURS = {  # column -> decimals of a number in per cent; None: as it is
    **dict.fromkeys(("arm", "rank", "n"), None),
    **dict.fromkeys(("top1_low", "top1_high", "sd", "difference", "difference_low", "difference_high"), 3),
    **dict.fromkeys(("p", "p_holm", "better", "seeds_needed", "params_m", "macs_g", "training_s"), None),
    **dict.fromkeys(("images_per_s", "is_control", "split", "protocol", "epochs"), None),
}
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def leaderboard_csv(comparison: Comparison) -> str:
    """Return a row an arm: timm's columns, then ours; accuracies in per cent, differences in points.

    Images are never cut or resized here, so `crop_pct` is 1 and `interpolation` empty. A text that a spreadsheet would
    take for a formula begins with an apostrophe; numbers stay numbers.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*TIMM, *OURS])
    for row in tables.leaderboard(comparison).to_dict("records"):
        recipe = comparison.arm(row["arm"]).arm.trials[0].recipe
        top1, top5 = row["top1"], row["top5"]
        timm = [row["model"], _size(recipe), top1, 1 - top1, top5, 1 - top5]
        shown = [timm[0], timm[1], *(_percent(value) for value in timm[2:])]
        params = None if formats.is_missing(row["params_m"]) else f"{row['params_m']:.2f}"
        known = row | {"split": comparison.split, "protocol": recipe.protocol, "epochs": recipe.epochs}
        own = [known[key] if decimals is None else _percent(known[key]) for key, decimals in OURS.items()]
        writer.writerow([_cell(value) for value in (*shown, params, "1.000", "", *own)])
    return buffer.getvalue().encode(errors="replace").decode()


def _size(recipe: Recipe) -> int:
    """Return the side of the pictures that a network was shown, in pixels."""
    return DATASETS[recipe.data.name].image_shape[-1] if recipe.data.is_published else recipe.data.size


def overall_summary(comparison: Comparison) -> dict[str, Any]:
    """Return arm -> its final numbers, best first: fractions, seconds, null for what is not known; valid JSON."""
    rows = tables.leaderboard(comparison).to_dict("records")
    summary: dict[str, Any] = _plain({row["arm"]: _arm(row, comparison) for row in rows})
    return summary


def _arm(row: Mapping[Any, Any], comparison: Comparison) -> dict[str, Any]:
    score = comparison.arm(row["arm"])
    recipe = score.arm.trials[0].recipe
    same = ("rank", "n", "top1_low", "top1_high", "sd", "top5", "difference", "difference_low", "difference_high")
    costs = ("params_m", "macs_g", "training_s", "images_per_s")
    return {
        "model": row["model"],
        "final_accuracy": row["top1"],
        "split": comparison.split,
        "protocol": recipe.protocol,
        "epochs": recipe.epochs,
        "is_control": row["is_control"],
        **{key: row[key] for key in (*same, "p_holm", "separable", *costs)},
        "same_recipe_as": list(score.arm.repeated),
        "seeds": {str(seed): run for seed, run in _seeds(score).items()},
    }


def _seeds(score: ArmScore) -> dict[int, dict[str, Any]]:
    return {
        seed: {
            "status": record.status,
            "top1": score.top1.get(seed),
            "training_s": record.summary.get("training_seconds"),
            "run": f"{record.folder.parent.name}/{record.folder.name}",
            "digest": record.recipe.digest,
        }
        for seed, record in sorted(score.runs.items())
    }


def _percent(value: float) -> str | None:
    return None if formats.is_missing(value) else f"{100 * value:.3f}"


def _cell(value: object) -> object:
    if formats.is_missing(value):
        return ""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) and not _is_number(value) else value


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _plain(value: Any) -> Any:  # noqa: ANN401 (any part of a summary)
    """Return what JSON can hold: no NaN, no NA, no half a character."""
    if isinstance(value, Mapping):
        return {str(_plain(str(key))): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if formats.is_missing(value) or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value
