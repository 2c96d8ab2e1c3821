"""The pictures, and how they are kept: the only door to matplotlib, with its rooms."""

from bakeoff.reports.canvas import render, save
from bakeoff.reports.confusion import confusion_matrix
from bakeoff.reports.curves import training_curves
from bakeoff.reports.zoo import Point, zoo

__all__ = ["Point", "confusion_matrix", "render", "save", "training_curves", "zoo"]
