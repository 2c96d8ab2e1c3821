"""The report in the forms that other programs read: Markdown, LaTeX, CSV and JSON."""

from bakeoff.reports.exports import leaderboard_csv, overall_summary
from bakeoff.reports.latex import latex
from bakeoff.reports.markdown import markdown

__all__ = ["latex", "leaderboard_csv", "markdown", "overall_summary"]
