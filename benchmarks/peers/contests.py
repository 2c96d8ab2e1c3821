"""What is measured in rounds: training, evaluation, the fixed cost around a step."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bakeoff.data.draws import permutation
from benchmarks.peers.lane import PeerFailed, Remote, Spec
from benchmarks.peers.task import OURS, SEED, WAYS
from benchmarks.rounds import Round, Segment, own, rotated, spread, summary

BARE = "benchmarks.loop:bare"
TOLERANCE = {False: 1e-3, True: 1e-2}  # bf16 -> largest relative difference of a loss
CHAOS = 2  # times as far apart as one rounding of the first weights drives two runs of bakeoff, where that is further
CHECKED = 20  # steps
SMALL, LARGE = 32, 512  # batches of the fixed cost
WORKERS = (0, 1, 2)
NUM_TRAIN = 50_000

Result = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What to measure, and how long.

    Args:
        peers: contestants, bakeoff among them.
        classes: of comparison.
        models: names of networks.
        rounds: of each contest.
        seconds: of one contestant's raw work in a turn, about.
        batch_size: pictures a training step.
        threads: of a contestant.
        folder: where pictures and logs are.
        workers: numbers of worker processes to try.
        fixed_images: pictures a turn, for the fixed cost.
        sizes: of training sets, for `data`.
        runs: numbers of them, for `runs`.
        run_images: pictures of one such run.
        say: receives a line now and then.
    """

    peers: Sequence[str]
    classes: Sequence[str]
    models: Sequence[str]
    rounds: int
    seconds: float
    batch_size: int
    threads: int
    folder: Path
    workers: Sequence[int] = WORKERS
    fixed_images: int = 20_000
    sizes: Sequence[int] = (5_000, 50_000, 500_000)
    runs: Sequence[int] = (1, 2, 4)
    run_images: int = 5_000

    def spec(self, peer: str, way: str, model: str, **other: Any) -> Spec:  # noqa: ANN401 - handed on
        """Return one contestant."""
        log = self.folder / f"{peer}.log"
        usual = {"batch_size": self.batch_size, "threads": self.threads}
        return Spec(peer=peer, way=way, model=model, folder=self.folder, log=log, **(usual | other))

    def say(self, *words: object) -> None:
        """Print a line."""
        print(*words, flush=True)


@dataclass
class Contest:
    """Contestants at the ready. Who fails is left out from there on, and its words are kept."""

    lanes: dict[str, Remote]
    failures: dict[str, str] = field(default_factory=dict)

    def ask(self, peer: str, verb: str, **options: Any) -> Any:  # noqa: ANN401 - whatever it answers
        """Ask one; None where it fails, or has failed."""
        if peer not in self.lanes or peer in self.failures:
            return None
        try:
            return self.lanes[peer].ask(verb, **options)
        except PeerFailed as failure:
            if peer == OURS:
                raise
            self.failures[peer] = str(failure)
            print(f"{peer} failed: {failure}", flush=True)
            return None

    @property
    def standing(self) -> list[str]:
        """Those that have not failed."""
        return [peer for peer in self.lanes if peer not in self.failures]


@contextmanager
def contest(bench: Bench, way: str, model: str, **other: Any) -> Iterator[Contest]:  # noqa: ANN401 - handed on
    """Start a process for each contestant."""
    with ExitStack() as open_ones:
        specs = {peer: bench.spec(peer, way, model, **other) for peer in bench.peers}
        yield Contest({peer: open_ones.enter_context(Remote(spec)) for peer, spec in specs.items()})


def largest_difference(losses: Sequence[float], reference: Sequence[float]) -> float:
    """Return the largest relative difference of two rows of losses of the same length."""
    return max(abs(a - b) / abs(b) for a, b in zip(losses, reference, strict=True))


def agreement(bench: Bench, at: Contest, way: str, model: str) -> Result:
    """Hold the losses of 20 steps to bakeoff's, in the class's precision; who differs is out of the contest.

    Large networks magnify rounding more than small ones: how much is measured, by bakeoff's twin.
    """
    batch_size, bf16 = 32, WAYS[way].bf16
    per_epoch = NUM_TRAIN // batch_size
    order = permutation(NUM_TRAIN, seed=SEED, epoch=0).numpy()  # bakeoff's own, whose last steps these are
    order = order[(per_epoch - CHECKED) * batch_size : per_epoch * batch_size]
    asked = {"order": order, "batch_size": batch_size}
    with Remote(bench.spec(OURS, way, model, bf16=bf16)) as ours:
        reference = ours.ask("losses", **asked)
        twin = largest_difference(ours.ask("losses", nudged=True, **asked), reference)
    tolerance = max(TOLERANCE[bf16], CHAOS * twin)
    found: Result = {"precision": "bf16" if bf16 else "float32", "tolerance": tolerance, "steps": CHECKED}
    found |= {"bakeoff_losses": reference, "one_rounding_beside": twin, "largest_relative_difference": {}}
    for peer in (peer for peer in at.standing if peer != OURS):
        losses = at.ask(peer, "losses", **asked)
        if losses is None:
            continue
        difference = largest_difference(losses, reference)
        found["largest_relative_difference"][peer] = difference
        if not difference <= tolerance:
            at.failures[peer] = f"trains something else: losses differ by {difference:.2%}"
    control = at.ask("torchvision", "losses", momentum=0.0, **asked)
    if control is not None:
        found["the_same_without_momentum"] = largest_difference(control, reference)
    bench.say(model, way, "losses differ by", found["largest_relative_difference"], "and", at.failures or "all agree")
    return found


def played(
    at: Contest, verb: str, *, num: int, raw: str, options: Mapping[str, Mapping[str, Any]], raw_options: Result
) -> list[Round]:
    """Play rounds: each contestant's `verb`, with its own options, between two of bakeoff's raw works."""
    rounds = []
    for number in range(num):
        before = at.ask(OURS, raw, **raw_options)
        turns: dict[str, Segment] = {}
        for peer in rotated(list(options), by=number):
            turn = at.ask(peer, verb, **options[peer])
            if turn is not None:
                turns[peer] = turn
        rounds.append(Round(before=before, turns=turns, after=at.ask(OURS, raw, **raw_options)))
    return rounds


def summaries(rounds: Sequence[Round], at: Contest, *, images: int) -> Result:
    """Return what all reached."""
    reached = {peer: summary(rounds, peer, against=OURS, images=images) for peer in at.standing}
    return {"peers": reached, "failures": at.failures}


def fastest_workers(bench: Bench, at: Contest, peer: str, way: str, *, steps: int) -> tuple[int, Result]:
    """Return the number of worker processes that is fastest here, and what was tried."""
    if peer == OURS or not WAYS[way].quiet or len(bench.workers) == 1:
        return bench.workers[0] if WAYS[way].quiet and peer != OURS else 0, {}
    tried = {num: at.ask(peer, "train", steps=max(3, steps // 2), workers=num) for num in bench.workers}
    found = {num: seconds for num, seconds in tried.items() if seconds is not None}
    return min(found, key=lambda num: found[num], default=0), {str(num): 1e3 * of for num, of in found.items()}


def training(bench: Bench) -> Iterator[Result]:
    """Measure training; yields after each class of each network."""
    result: Result = {}
    for model in bench.models:
        for way in bench.classes:
            with contest(bench, way, model) as at:
                found: Result = {"agreement": agreement(bench, at, way, model), "workers": {}, "ms_by_workers": {}}
                options: dict[str, Result] = {}
                for peer in at.standing:
                    raw = at.ask(peer, "raw", steps=2)
                    if raw is None:
                        continue
                    steps = max(2, round(bench.seconds / raw))
                    workers, tried = fastest_workers(bench, at, peer, way, steps=steps)
                    options[peer] = {"steps": steps, "workers": workers}
                    found["workers"][peer], found["ms_by_workers"][peer] = workers, tried
                raw_options = {"steps": options[OURS]["steps"]}
                rounds = played(
                    at, "turn", num=bench.rounds, raw="raw", options=options, raw_options=raw_options
                )  # fmt: skip
                found |= {"batch_size": bench.batch_size, "steps": {peer: of["steps"] for peer, of in options.items()}}
                found |= summaries(rounds, at, images=bench.batch_size)
            bench.say(model, way, {peer: of["images_per_s"].get("median") for peer, of in found["peers"].items()})
            result.setdefault(model, {})[way] = found
            yield result


def evaluation(bench: Bench) -> Iterator[Result]:
    """Measure evaluation, without worker processes; yields after each class of each network."""
    result: Result = {}
    for model in bench.models:
        for way in bench.classes:
            with contest(bench, way, model) as at:
                options: dict[str, Result] = {}
                top1: dict[str, float] = {}
                for peer in at.standing:
                    raw = at.ask(peer, "raw_evaluation", num=1000)
                    if raw is not None:
                        num = min(10_000, max(2_000, round(bench.seconds / raw / 500) * 500))
                        options[peer] = {"num": num}
                        answer = at.ask(peer, "evaluate", num=2_000)  # the first calls are slower
                        top1 |= {} if answer is None else {peer: answer[1]}
                rounds = played(
                    at,
                    "evaluation_turn",
                    num=bench.rounds,
                    raw="raw_evaluation",
                    options=options,
                    raw_options=options[OURS],
                )
                found = {"top1_untrained": top1, **summaries(rounds, at, images=1)}
            bench.say(model, way, {peer: of["images_per_s"].get("median") for peer, of in found["peers"].items()})
            result.setdefault(model, {})[way] = found
            yield result


def line(small: float, large: float) -> Result:
    """Return cost an image and a step, from the seconds of a step at the two batch sizes."""
    per_image = (large - small) / (LARGE - SMALL)
    return {"us_per_image": 1e6 * per_image, "ms_per_step": 1e3 * (small - SMALL * per_image)}


def fixed(bench: Bench) -> Iterator[Result]:
    """Measure what remains with almost no network, on one thread, without worker processes; yields after each class."""
    result: Result = {}
    for way in bench.classes:
        extra: dict[str, dict[int, list[float]]] = {}
        failures: dict[str, str] = {}
        for batch_size in (SMALL, LARGE):
            with contest(bench, way, BARE, batch_size=batch_size, threads=1) as at:
                asked = {"steps": max(4, bench.fixed_images // batch_size), "raw_steps": 1000}
                for peer in at.standing:
                    at.ask(peer, "train", steps=4)  # warm
                options = dict.fromkeys(at.standing, asked)
                rounds = played(at, "turn", num=bench.rounds, raw="raw", options=options, raw_options={"steps": 1000})
                for peer in at.standing:
                    extra.setdefault(peer, {})[batch_size] = [of.seconds - of.raw for of in own(rounds, peer)]
                failures |= at.failures
        result[way] = {"rounds": bench.rounds, "failures": failures, "peers": {}}
        for peer, of in extra.items():
            small, large = of.get(SMALL, []), of.get(LARGE, [])
            cost = line(statistics.median(small), statistics.median(large)) if small and large else {}
            spreads = {"small_ms": spread(1e3 * s for s in small), "large_ms": spread(1e3 * s for s in large)}
            result[way]["peers"][peer] = {**cost, **spreads}
        bench.say("fixed", way, {peer: of.get("us_per_image") for peer, of in result[way]["peers"].items()})
        yield result
