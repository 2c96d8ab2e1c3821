"""What a run learns from, written into its folder when it begins, and what it is held to from then on."""

import json

from bakeoff.errors import DataError, ResumeRefused
from bakeoff.results.files import write_atomically
from bakeoff.results.store import Run
from bakeoff.training import teacher
from bakeoff.training.assembly import Share
from bakeoff.training.loop import Parts


def write(run: Run, share: Share, parts: Parts) -> None:
    """Save which images train, which are held out, of what data, and the teacher's figures.

    Where that was done before, the run is held to it.

    Raises:
        ResumeRefused: other images, or a teacher with other weights.
    """
    before = run.read_json(run.split_path)
    if before and before != share.split:
        raise ResumeRefused(
            str(run.split_path),
            found="another split, or other data",
            expected="the images that the run began with",
            hint="The data set has changed since. Train anew under another name.",
        )
    write_atomically(run.split_path, (json.dumps(share.split) + "\n").encode())
    if parts.teacher is not None:
        teacher.write(parts.teacher, run)


def hold_to(run: Run, share: Share) -> None:
    """Refuse own pictures that are not those of training any more: among what is test now may be what was learnt.

    Raises:
        DataError: they are not.
    """
    if run.read_json(run.split_path) != share.split:
        raise DataError(
            str(run.split_path),
            found="another split, or other pictures",
            expected="the pictures that the run was trained on",
            hint="The data set has changed since, or another one lies here. Other pictures: eval RUN data=...",
        )
