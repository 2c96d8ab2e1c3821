"""The trainer: takes a run through its epochs; evaluates, logs, saves, stops when asked.

The order is the program: train an epoch, evaluate, keep the best weights, write the row, commit the
checkpoint. A kill anywhere repeats at most what lies after the last checkpoint, and rewrites it equal.
On several ranks each has a trainer, and all are at the same step; the first alone writes.
"""

import logging
import math
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from bakeoff.data.images import ImageSet
from bakeoff.errors import Diverged, Interrupted, ResumeRefused
from bakeoff.results import metrics
from bakeoff.results.store import Run
from bakeoff.training import checkpoint, loop, weights
from bakeoff.training.checkpoint import Checkpoint
from bakeoff.training.evaluate import evaluate
from bakeoff.training.loop import Parts, Position
from bakeoff.training.ranks import Ranks
from bakeoff.training.signals import StopRequest

_log = logging.getLogger(__name__)
_TICK_S = 0.2  # how often progress is told: often enough for an eye, too seldom to cost anything
_ASK_EVERY = 25  # steps on a GPU, after which ranks ask each other whether to stop
_RANDOM = ("rng_cpu", "rng_cuda")


@dataclass(frozen=True, kw_only=True, slots=True)
class Tick:
    """What a progress bar shows."""

    epoch: int
    step: int
    total_steps: int
    loss: float
    val_top1: float
    images_per_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """When a run saves and evaluates, and what it stamps on its files.

    Args:
        eval_every: in epochs.
        checkpoint_steps: in optimizer steps; None is the end of each epoch.
        digest: of the recipe.
        card: metadata of the weights.
        random_key: epoch, rank -> seed of the model's own randomness (dropout, drop-path).
    """

    epochs: int
    eval_every: int
    checkpoint_steps: int | None
    digest: str
    card: Mapping[str, Any]
    random_key: Callable[[int, int], int]


@dataclass(kw_only=True, slots=True)
class Trainer:
    """One run at work.

    Args:
        network: the model as it is saved and evaluated: never compiled.
        val: held-out images, or None in the `paper` protocol.
        stop: set by a signal.
        tell: receives a tick a few times a second.
        track: receives every row of the metric log.
    """

    run: Run
    plan: Plan
    parts: Parts
    network: nn.Module
    val: ImageSet | None
    stop: StopRequest
    tell: Callable[[Tick], None]
    track: Callable[[Mapping[str, Any]], None] = lambda _: None
    position: Position = field(init=False)
    best_top1: float = -1.0
    best_epoch: int = 0
    val_top1: float = math.nan
    seconds: float = 0.0
    mean_loss: float = math.nan  # of the last epoch: what a progress bar shows where reading a step's would wait
    _told: float = 0.0

    def __post_init__(self) -> None:
        self.position = Position.at_start(self.parts)

    @property
    def scored(self) -> nn.Module:
        """The network whose accuracy counts: the averaged one where there is an average."""
        return self.network if self.parts.average is None else self.parts.average.module

    @property
    def ranks(self) -> Ranks:
        """The processes of the run."""
        return self.parts.device.ranks

    def fit(self) -> None:
        """Train to the end of the plan.

        Raises:
            Diverged: the loss or a weight left the finite numbers.
            Interrupted: a signal asked to stop; the state is saved.
        """
        while self.position.epoch < self.plan.epochs:
            self.train_epoch()
            self.position.epoch += 1
            self._evaluate_and_log()
            self._save()
            if self.ranks.any(bool(self.stop)):  # also after the last: whoever stops a run wants no more from it
                self._interrupt()

    def begin(self) -> None:
        """Commit the state before the first step, so that a kill never leaves a run without one."""
        self._seed_epoch()
        self._save()

    def restore(self, found: Checkpoint) -> None:
        """Take up a saved state; metric rows beyond it are dropped, since they will come again."""
        state = found.state
        try:
            self.network.load_state_dict(state["model"])
            self.parts.optimizer.load_state_dict(state["optimizer"])
            if self.parts.average is not None:
                self.parts.average.load_state_dict(state["average"])
            if self.parts.adapter is not None:
                self.parts.adapter.load_state_dict(state["adapter"])
        except (RuntimeError, ValueError) as error:
            raise ResumeRefused(
                f"step {found.step} of {self.run.folder}",
                found=f"the state of another network ({' '.join(str(error).split())[:200]})",
                expected="that of the network as it is built now",
                hint="A plug-in's code has changed since the run began.",
            ) from None
        self.position.epoch, self.position.step = state["epoch"], state["step"]
        self.position.losses.copy_(state["losses"])
        if self.parts.terms:
            self.position.terms.copy_(state["terms"])
        self.best_top1, self.best_epoch = state["best_top1"], state["best_epoch"]
        self.val_top1, self.seconds = state["val_top1"], state["seconds"]
        self._set_random_state([{key: state[key] for key in _RANDOM}, *state.get("random_of_others", [])])
        self.ranks.first(lambda: self.run.metrics.roll_back(self.position.step))

    def _random_state(self) -> dict[str, torch.Tensor | None]:
        cuda = self.parts.device.kind.type == "cuda"
        return {"rng_cpu": torch.get_rng_state(), "rng_cuda": torch.cuda.get_rng_state() if cuda else None}

    def _set_random_state(self, of_ranks: Sequence[Mapping[str, Any]]) -> None:
        """Take up this rank's state; one that there was not before begins the epoch's anew."""
        if self.ranks.index >= len(of_ranks):
            self._seed_epoch()
            return
        own = of_ranks[self.ranks.index]
        torch.set_rng_state(own["rng_cpu"].cpu())
        if self.parts.device.kind.type == "cuda":
            torch.cuda.set_rng_state(own["rng_cuda"].cpu())

    def _state(self) -> dict[str, Any]:
        first, *others = self.ranks.gather(self._random_state())
        return {
            "model": self.network.state_dict(),
            "optimizer": self.parts.optimizer.state_dict(),
            "average": None if self.parts.average is None else self.parts.average.state_dict(),
            "epoch": self.position.epoch,
            "step": self.position.step,
            "losses": self.position.losses,
            "terms": self.position.terms,
            "adapter": None if self.parts.adapter is None else self.parts.adapter.state_dict(),
            "best_top1": self.best_top1,
            "best_epoch": self.best_epoch,
            "val_top1": self.val_top1,
            "seconds": self.seconds,
            **first,
            "random_of_others": others,
        }

    def _seed_epoch(self) -> None:
        # The model's own randomness has no index to be keyed by: it is seeded an epoch, and its
        # state is part of a checkpoint.
        torch.manual_seed(self.plan.random_key(self.position.epoch, self.ranks.index))

    def train_epoch(self) -> None:
        """Train from where the run stands to the end of its epoch."""
        if self.position.step_in_epoch == 0:
            self._seed_epoch()
        started, first = time.perf_counter(), self.position.step
        on_host = self.parts.device.kind.type == "cpu"
        for _ in loop.epoch(self.parts, self.position):
            now = time.perf_counter()
            if on_host:  # elsewhere reading a loss would wait for the device: the epoch's end reads them
                self._check_finite(self.position.step_in_epoch - 1)
            if now - self._told > _TICK_S:
                self._tick(now, started, first)
            every = self.plan.checkpoint_steps
            due = every is not None and self.position.step % every == 0
            unfinished = self.position.step_in_epoch < len(self.position.losses)
            stops = unfinished and self._is_to_stop()
            if unfinished and (due or stops):
                self.seconds += time.perf_counter() - started
                self._save()
                if stops:
                    self._interrupt()
                started, first = time.perf_counter(), self.position.step
        self._check_finite(0)
        self.seconds += time.perf_counter() - started

    def _is_to_stop(self) -> bool:
        """Tell whether a signal has reached any rank; ranks that would have to wait for a GPU ask now and then."""
        asks = self.parts.device.kind.type == "cpu" or self.position.step % _ASK_EVERY == 0
        return self.ranks.any(bool(self.stop)) if self.ranks.size == 1 or asks else False

    def _check_finite(self, first: int) -> None:
        losses = self.position.losses[first : self.position.step_in_epoch].tolist()
        for i, loss in enumerate(losses, start=first):
            if not math.isfinite(loss):
                self._diverge(f"a loss of {loss}", step=self.position.epoch * len(self.position.losses) + i + 1)

    def _diverge(self, found: str, *, step: int) -> None:
        self.ranks.first(lambda: self.run.write_json(self.run.divergence_path, {"step": step, "found": found}))
        raise Diverged(
            f"step {step} of {self.run.folder}",
            found=found,
            expected="finite numbers",
            hint="The last finite checkpoint is kept. Try a lower lr, a warm-up (warmup=0.1) or clip_norm=1.",
        )

    def _tick(self, now: float, started: float, first: int) -> None:
        self._told = now
        on_host = self.parts.device.kind.type == "cpu"
        done = self.position.step_in_epoch
        loss = float(self.position.losses[done - 1]) if on_host and done else self.mean_loss
        images = (self.position.step - first) * self.parts.batches.batch_size
        self.tell(
            Tick(
                epoch=self.position.epoch + 1,
                step=self.position.step,
                total_steps=self.parts.total_steps,
                loss=loss,
                val_top1=self.val_top1,
                images_per_s=images / max(now - started, 1e-9),
            )
        )

    def _evaluate_and_log(self) -> None:
        number = self.position.epoch
        losses = self.position.losses.double().cpu()
        row: dict[str, Any] = {
            "epoch": number,
            "step": self.position.step,
            "lr": max(group["lr"] for group in self.parts.optimizer.param_groups),
            "train/loss": float(losses.mean()),
        }
        shares = (self.position.terms.double().mean(0).cpu() / losses.mean()).tolist()
        row |= {f"train/share/{name}": share for name, share in zip(self.parts.terms, shares, strict=True)}
        self.mean_loss = row["train/loss"]
        if self.val is not None and (number % self.plan.eval_every == 0 or number == self.plan.epochs):
            outcome = evaluate(self.scored, self.val, device=self.parts.device)
            if not np.isfinite(outcome.logits).all():
                self._diverge("a logit that is not finite", step=self.position.step)
            scores = metrics.summarise(outcome)
            self.val_top1 = scores["top1"]
            row |= {"val/loss": scores["nll"], "val/top1": scores["top1"], "val/top5": scores["top5"]}
            if self.parts.teacher is not None:
                row["val/agreement"] = self.parts.teacher.agreement(outcome.logits)
            if self.val_top1 > self.best_top1:
                self.best_top1, self.best_epoch = self.val_top1, number
                best = self.run.weights("best")
                self.ranks.first(lambda: weights.write(self.scored, best, card=self.plan.card))
        images = number * len(losses) * self.parts.batches.batch_size
        row |= {"seconds": round(self.seconds, 3), "images_per_s": round(images / max(self.seconds, 1e-9), 1)}
        self.ranks.first(lambda: self.run.metrics.append(row))
        self.track(row)
        _log.info(", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))

    def _save(self) -> None:
        tensors = [*self.network.parameters(), *self.network.buffers()]
        if not bool(torch.stack([t.isfinite().all() for t in tensors]).all()):
            self._diverge("a weight that is not finite", step=self.position.step)
        state, plan, step = self._state(), self.plan, self.position.step
        self.ranks.first(
            lambda: checkpoint.save(self.run.checkpoints, state, step=step, digest=plan.digest, epochs=plan.epochs)
        )

    def _interrupt(self) -> None:
        raise Interrupted(
            self.stop.signal_number or signal.SIGTERM,  # which may have reached another rank alone
            where=f"step {self.position.step} of {self.run.folder}",
            hint=f"Its state is saved. Go on by: bakeoff resume {self.run.folder}",
        )
