"""The process that trains: it is given runs, and takes each to its end.

    python -m bakeoff.launch.worker [--apart]

A line of stdin is a job, a line of stdout says how far one is or how it ended (`launch.jobs`). When stdin ends, the
driver is dead or wants no more: runs at work save their state and stop, by the SIGTERM that a person would send.

With `--apart` every run is a fork of a process that has done nothing but import: libraries, which take seconds to load
and hundreds of megabytes to keep, are there once, and no run inherits anything of another. It is not for a GPU, which
a fork cannot use once anything has looked at it: there a process works on one run in itself, and ends with it.
"""

import dataclasses
import os
import select
import signal
import sys
import threading
import traceback
from contextlib import suppress

from bakeoff import catalogue
from bakeoff.errors import BakeoffError, RecipeError
from bakeoff.launch.jobs import Job, claim, error_line, line
from bakeoff.results import lock
from bakeoff.results.files import storage_errors
from bakeoff.results.store import Run
from bakeoff.training import run as training
from bakeoff.training.signals import SIGNALS, listen
from bakeoff.training.trainer import Tick

STDIN, STDOUT, STDERR = 0, 1, 2


class Channel:
    """The way back to the driver, for this process and its forks."""

    def __init__(self) -> None:
        self._descriptor = os.dup(STDOUT)
        os.dup2(STDERR, STDOUT)  # whatever somebody's network prints goes to the log

    def say(self, message: bytes) -> None:
        """Send one message; to a dead driver nothing needs to be said."""
        with suppress(BrokenPipeError):
            os.write(self._descriptor, message)

    def mention(self, message: bytes) -> None:
        """Send one, unless a driver that was suspended has let the pipe run full: training never waits for it."""
        if select.select([], [self._descriptor], [], 0)[1]:
            self.say(message)


def serve(channel: Channel) -> None:
    """Work on every job that comes, each in a fork, until stdin ends and the last fork has ended."""
    forks: dict[int, tuple[int, Job]] = {}  # by the descriptor that tells of a fork's end
    poller = select.poll()
    poller.register(STDIN, select.POLLIN)
    with open(STDIN, "rb", buffering=0, closefd=False) as jobs:
        stdin_ended = False
        while forks or not stdin_ended:
            for ready, _ in poller.poll():
                if ready in forks:
                    child, job = forks.pop(ready)
                    poller.unregister(ready)
                    os.close(ready)
                    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                    channel.say(line({"run": job.run, "ended": code}))
                elif text := jobs.readline():
                    job = Job.from_line(text)
                    child = _fork(job, channel)
                    ready = os.pidfd_open(child)
                    forks[ready] = child, job
                    poller.register(ready, select.POLLIN)
                else:
                    stdin_ended = True
                    poller.unregister(STDIN)


def _fork(job: Job, channel: Channel) -> int:
    """Work in a forked process; return its number."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            for number in SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            code = work(job, channel)
        finally:
            with suppress(BaseException):  # whatever happens, never back into the parent's loop
                sys.stdout.flush()
            os._exit(code)
    return child


def work(job: Job, channel: Channel) -> int:
    """Take one run to its end, and return the exit code."""
    _stop_when_stdin_ends()
    if job.plugin and "" not in sys.path:
        sys.path.insert(0, "")  # it was typed in this folder
    try:
        with storage_errors(job.folder):
            job.folder.parent.mkdir(parents=True, exist_ok=True)
        with lock.hold(claim(job.folder)):
            _train(job, channel)
            _read_test(job)
    except BakeoffError as error:
        channel.say(error_line(job.run, error))
        return error.exit_code
    except Exception as error:  # a bug, or whatever a plug-in raises
        traceback.print_exc()
        found = f"{type(error).__name__}: {error}"
        strange = BakeoffError(str(job.folder), found=found, expected="a run without a fault of the program", hint="")
        channel.say(error_line(job.run, strange))
        return strange.exit_code
    return 0


def _train(job: Job, channel: Channel) -> None:
    """Begin the run, or go on where it stopped; nothing where it is finished."""

    def tell(tick: Tick) -> None:
        channel.mention(line({"run": job.run, "tick": dataclasses.asdict(tick)}))

    run = Run(job.folder)
    if not run.recipe_path.is_file():
        _refuse_plugin(job)
        training.start(job.recipe, job.folder, command=job.command, tune=False, tell=tell)
    elif run.status() != "finished":
        training.resume(run, plugin=job.plugin, command=job.command, tell=tell)


def _read_test(job: Job) -> None:
    """Read test if that is asked for and was not done. A request to stop waits: half a look is a look wasted."""
    run = Run(job.folder)
    if job.test and "test" not in run.read_json(run.summary_path):
        with listen():
            training.read_test(run, plugin=job.plugin, command=job.command)


def _refuse_plugin(job: Job) -> None:
    """Run no code that only a recipe asks for."""
    name = job.recipe.model.name
    if catalogue.is_plugin(name) and name != job.plugin:
        expected = "a name of the catalogue, or the same name on the command line"
        raise RecipeError("model.name", found=f"'{name}', which would run code", expected=expected)


def _stop_when_stdin_ends() -> None:
    """Ask this process to stop when stdin has ended, unless somebody has asked already: twice would mean at once."""
    asked, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)

    def watch() -> None:
        poller = select.poll()
        poller.register(STDIN, 0)  # for its end alone: what is in it is for the loop
        poller.register(asked, select.POLLIN)
        if asked not in dict(poller.poll()):
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Serve the driver at the other end of stdin and stdout."""
    channel = Channel()
    if "--apart" not in sys.argv[1:]:
        text = sys.stdin.buffer.readline()
        sys.exit(work(Job.from_line(text), channel) if text else 0)
    import torch._dynamo  # an optimizer's first step imports it, in two seconds  # noqa: F401

    for number in SIGNALS:  # the end of stdin ends this process; its forks hear signals themselves
        signal.signal(number, signal.SIG_IGN)
    serve(channel)


if __name__ == "__main__":
    main()
