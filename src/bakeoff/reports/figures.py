"""The pictures of one run, and how they are kept: the only door to matplotlib, with its three rooms."""

from bakeoff.reports.canvas import render, save
from bakeoff.reports.confusion import confusion_matrix
from bakeoff.reports.curves import training_curves

__all__ = ["confusion_matrix", "render", "save", "training_curves"]
