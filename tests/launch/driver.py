"""A driver in a process of its own.

python -m tests.launch.driver ROOT RUNS [jobs=N] [executor=NAME] [address=A] [store=URL] [KEY=VALUE]...
"""

import sys
from pathlib import Path

from bakeoff.errors import BakeoffError
from bakeoff.launch import grid, remote
from bakeoff.launch.executors import Placement
from tests.launch import grids


def main() -> int:
    """Run a study of so many runs, say how they ended, and exit as the command line would."""
    root, runs, *settings = sys.argv[1:]
    remote.BRING_EVERY_S = 1.0  # its runs take seconds
    typed = dict(text.split("=", 1) for text in settings)
    jobs = int(typed.pop("jobs", 1))
    where = Placement(
        jobs=jobs, **{name: typed.pop(name) for name in ("executor", "address", "store") if name in typed}
    )
    study = grids.many(int(runs), *(f"{key}={value}" for key, value in typed.items()))
    try:
        outcome = grid.run(study, root=Path(root), placement=where, plugin=grids.TINY)
    except BakeoffError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    for end in outcome.runs:
        print(end.state, end.folder.name, end.error or "")
    return 1 if outcome.failed else 0


if __name__ == "__main__":
    sys.exit(main())
