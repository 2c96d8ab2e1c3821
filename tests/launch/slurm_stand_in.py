"""What Slurm's programs answer, as far as submitit asks: one node, no queue, and books kept in a folder.

python slurm_stand_in.py sbatch|srun|sacct|scancel BOOKS [ARGUMENT]...
"""

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any


def install(folder: Path) -> dict[str, str]:
    """Write the programs into a folder; return the environment that finds them. Their books are in `folder/books`."""
    programs = folder / "bin"
    for made in (programs, folder / "books"):
        made.mkdir()
    for name in ("sbatch", "srun", "sacct", "scancel"):
        text = f'#!/bin/sh\nexec {sys.executable} {Path(__file__).absolute()} {name} {folder / "books"} "$@"\n'
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    return {"PATH": f"{programs}:{os.environ['PATH']}"}


def read(books: Path, number: str) -> dict[str, Any]:
    """Return what stands in the books of a job; one whose process is gone without a word has failed."""
    job: dict[str, Any] = json.loads((books / f"{number}.json").read_text())
    if job["state"] == "RUNNING" and (books / f"{number}.exit").exists():
        job["state"] = "COMPLETED" if (books / f"{number}.exit").read_text().strip() == "0" else "FAILED"
    return job


def write(books: Path, number: str, **job: Any) -> None:
    (books / f"{number}.json").write_text(json.dumps(job))


def sbatch(books: Path, script: str) -> int:
    """Take a job and start it at once, unless the queue is full."""
    text = Path(script).read_text()
    if "--partition=nowhere" in text:
        print("sbatch: error: invalid partition specified: nowhere", file=sys.stderr)
        return 1
    number = str(len(list(books.glob("*.sh"))) + 1)
    shutil.copy(script, books / f"{number}.sh")
    process = 0
    if not (books / "full").exists():
        outputs = dict(re.findall(r"#SBATCH --(output|error)=(\S+)", text))
        streams = {
            {"output": "stdout", "error": "stderr"}[name]: open(path.strip("'").replace("%j", number), "ab")  # noqa: SIM115
            for name, path in outputs.items()
        }
        environment = {**os.environ, "SLURM_JOB_ID": number, "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}
        environment |= {"SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_JOB_NUM_NODES": "1"}
        command = f"bash {books / number}.sh; echo $? > {books / number}.exit"
        process = subprocess.Popen(["bash", "-c", command], env=environment, start_new_session=True, **streams).pid
    write(books, number, state="RUNNING" if process else "PENDING", process=process)
    print(f"Submitted batch job {number}")
    return 0


def srun(_: Path, *arguments: str) -> int:
    """Do here what follows the options."""
    command = list(arguments)
    while command[0].startswith("--"):
        del command[: 2 if command[0] in ("--output", "--error") else 1]
    os.execvp(command[0], command)


def sacct(books: Path, *arguments: str) -> int:
    """Answer how jobs stand."""
    print("JobID|State|NodeList")
    for number in (value for flag, value in itertools.pairwise(arguments) if flag == "-j"):
        print(f"{number}|{read(books, number)['state']}|here")
    return 0


def scancel(books: Path, number: str, *_: str) -> int:
    """Kill a job, or take it out of the queue."""
    job = read(books, number)
    if job["state"] in ("RUNNING", "PENDING"):
        if job["process"]:
            with suppress(ProcessLookupError):
                os.killpg(job["process"], signal.SIGKILL)
        write(books, number, **job | {"state": "CANCELLED"})
    return 0


if __name__ == "__main__":
    name, folder, *rest = sys.argv[1:]
    sys.exit({"sbatch": sbatch, "srun": srun, "sacct": sacct, "scancel": scancel}[name](Path(folder), *rest))
