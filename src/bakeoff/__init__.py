"""Train small-image classifiers from scratch, compare them fairly, and say how sure the answer is.

Importing this package loads no torch: planning and reporting run without it.
"""

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("bakeoff")
