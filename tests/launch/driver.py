"""A driver in a process of its own: `python -m tests.launch.driver ROOT RUNS [jobs=N] [KEY=VALUE]...`."""

import sys
from pathlib import Path

from bakeoff.errors import BakeoffError
from bakeoff.launch import grid
from tests.launch import grids


def main() -> int:
    """Run a study of so many runs, say how they ended, and exit as the command line would."""
    root, runs, *settings = sys.argv[1:]
    jobs = next((int(text.removeprefix("jobs=")) for text in settings if text.startswith("jobs=")), 1)
    study = grids.many(int(runs), *(text for text in settings if not text.startswith("jobs=")))
    try:
        outcome = grid.run(study, root=Path(root), jobs=jobs, plugin=grids.TINY)
    except BakeoffError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    for end in outcome.runs:
        print(end.state, end.folder.name, end.error or "")
    return 1 if outcome.failed else 0


if __name__ == "__main__":
    sys.exit(main())
