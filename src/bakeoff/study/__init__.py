"""Studies: one question, all its runs. `schema` says what a file holds, `expand` which recipes follow from it."""

from bakeoff.study.expand import Arm, Study, Trial, load, of, restore

__all__ = ["Arm", "Study", "Trial", "load", "of", "restore"]
