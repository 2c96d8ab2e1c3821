"""The words of docs/models.md, and what other tables print: what docs/models.py cannot read off the code."""

COUNTED = "one 3x32x32 picture, 100 classes"
HEAD = ""
