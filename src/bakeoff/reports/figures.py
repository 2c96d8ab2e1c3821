"""The pictures, and how they are kept: the only door to matplotlib, with its rooms."""

from bakeoff.reports.canvas import render, save
from bakeoff.reports.confusion import confusion_matrix
from bakeoff.reports.curves import training_curves
from bakeoff.reports.study_figures import (
    ablation_analysis,
    accuracy_by_setting,
    accuracy_comparison,
    architecture_comparison,
    efficiency_analysis,
)
from bakeoff.reports.zoo import Point, zoo

__all__ = [
    "Point",
    "ablation_analysis",
    "accuracy_by_setting",
    "accuracy_comparison",
    "architecture_comparison",
    "confusion_matrix",
    "efficiency_analysis",
    "render",
    "save",
    "training_curves",
    "zoo",
]
