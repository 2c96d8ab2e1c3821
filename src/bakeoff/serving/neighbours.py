"""The training pictures that a network takes for most alike: the ones it knew when it answered."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bakeoff.serving import gradcam
from bakeoff.serving.gradcam import Shape

Features = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where in a network the features of a picture are.

    Args:
        head: the matrix that makes logits of them, by its name; None where the network ends otherwise.
        layer: the last map, whose mean over the places they are where there is no such matrix.
    """

    head: str | None
    layer: gradcam.Layer | None = None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Nearest:
    """The nearest rows of each query, the nearest first; of equals the earlier row.

    Args:
        index: int64 [m k], rows.
        similarity: float64 [m k], cosines in [-1, 1].
    """

    index: NDArray[np.int64]
    similarity: NDArray[np.float64]


def find(network: nn.Module, image_shape: Shape, *, device: torch.device | None = None) -> Place | None:
    """Return where the features are: before the matrix whose answer is the logits, else the last map, else nowhere.

    Args:
        network: on `device`.
        image_shape: of the pictures that it takes.
        device: where it is; None is the CPU.
    """
    matrices = [name for name, module in network.named_modules() if name and isinstance(module, nn.Linear)]
    outputs: dict[str, Tensor] = {}

    def keep(name: str, x: Tensor, output: Tensor) -> None:
        if x.ndim == 2:
            outputs[name] = output

    with gradcam.listening(network, matrices, keep), torch.no_grad():
        logits = network(torch.zeros(1, *image_shape, device=device))
    heads = [name for name, output in outputs.items() if output.shape == logits.shape and torch.equal(output, logits)]
    if heads:
        return Place(head=heads[-1])
    layer = gradcam.find(network, image_shape, device=device)
    return None if layer is None else Place(head=None, layer=layer)


def features(network: nn.Module, x: Iterable[Tensor], *, place: Place) -> Iterator[Features]:
    """Yield the features float32 [b d] of each batch float32 [b c h w]; the network is left as it was."""
    name = place.head if place.layer is None else place.layer.name
    assert name is not None
    seen: list[Tensor] = []

    def keep(name: str, x: Tensor, output: Tensor) -> None:
        seen[:] = [x if place.layer is None else place.layer.read(output).mean((2, 3))]

    for batch in x:
        with gradcam.listening(network, [name], keep), torch.no_grad():
            network(batch)
        yield seen[0].float().cpu().numpy()


def nearest(queries: Features, rows: Iterable[Features], *, k: int) -> Nearest:
    """Find the k rows with the greatest cosine to each query, exactly, without keeping the rows.

    Args:
        queries: float32 [m d].
        rows: batches float32 [b d].
        k: how many, 0 or more; fewer are returned where there are fewer rows.
    """
    wanted = _unit(queries)
    index = np.empty((len(queries), 0), dtype=np.int64)
    similarity = np.empty((len(queries), 0))
    done = 0
    for batch in rows:
        found = np.clip(wanted @ _unit(batch).T, -1.0, 1.0)
        places = np.broadcast_to(np.arange(done, done + len(batch)), found.shape)
        similarity, index = np.hstack((similarity, found)), np.hstack((index, places))
        best = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
        similarity, index = np.take_along_axis(similarity, best, 1), np.take_along_axis(index, best, 1)
        done += len(batch)
    return Nearest(index=index, similarity=similarity)


def _unit(rows: Features) -> NDArray[np.float64]:
    """Bring rows to length 1; a row of zeros stays one, and is like nothing."""
    exact = rows.astype(np.float64)
    lengths = np.linalg.norm(exact, axis=1, keepdims=True)
    return exact / np.where(lengths == 0, 1.0, lengths)
