"""Nearest training pictures: the same as a reference finds, exactly, however they come."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor, nn

from bakeoff.serving import gradcam, neighbours
from bakeoff.serving.neighbours import Features
from tests.training import tiny

SHAPE = (3, 8, 8)


def drawn(num: int, width: int, *, seed: int) -> Features:
    return np.random.default_rng(seed).standard_normal((num, width)).astype(np.float32)


def in_batches(rows: Features, size: int) -> list[Features]:
    return [rows[first : first + size] for first in range(0, len(rows), size)]


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_the_same_as_a_reference(size: int) -> None:
    rows, queries = drawn(200, 12, seed=0), drawn(9, 12, seed=1)
    reference = NearestNeighbors(n_neighbors=5, metric="cosine", algorithm="brute").fit(rows.astype(np.float64))
    distance, index = reference.kneighbors(queries.astype(np.float64))
    found = neighbours.nearest(queries, in_batches(rows, size), k=5)
    np.testing.assert_array_equal(found.index, index)
    np.testing.assert_allclose(found.similarity, 1 - distance, atol=1e-12)


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_of_equals_the_earlier_comes_first(size: int) -> None:
    rows = np.array([[1, 0], [2, 0], [0, 1], [3, 0], [0, 2], [4, 0]], dtype=np.float32)
    found = neighbours.nearest(np.array([[5, 0]], dtype=np.float32), in_batches(rows, size), k=5)
    assert found.index.tolist() == [[0, 1, 3, 5, 2]]
    assert found.similarity.tolist() == [[1.0, 1.0, 1.0, 1.0, 0.0]]


def test_a_row_of_zeros_is_like_nothing() -> None:
    rows = np.array([[0, 0], [-1, 0], [1, 1]], dtype=np.float32)
    queries = np.array([[1, 0], [0, 0]], dtype=np.float32)
    found = neighbours.nearest(queries, [rows], k=3)
    assert found.index.tolist() == [[2, 0, 1], [0, 1, 2]]
    np.testing.assert_allclose(found.similarity, [[0.5**0.5, 0, -1], [0, 0, 0]])


@pytest.mark.parametrize(("k", "expected"), [(0, 0), (3, 3), (9, 4)])
def test_never_more_than_there_are(k: int, expected: int) -> None:
    found = neighbours.nearest(drawn(2, 3, seed=0), in_batches(drawn(4, 3, seed=1), 3), k=k)
    assert found.index.shape == found.similarity.shape == (2, expected)


def test_features_are_what_the_head_is_given() -> None:
    torch.manual_seed(0)
    network = tiny.staged(num_classes=5, in_channels=3).eval()
    place = neighbours.find(network, SHAPE)
    assert place == neighbours.Place(head="fc")
    x = torch.randn(6, *SHAPE)
    (features,) = neighbours.features(network, [x], place=place)
    with torch.no_grad():
        logits = network.get_submodule("fc")(torch.from_numpy(features))
        torch.testing.assert_close(logits, network(x))


def test_a_matrix_inside_the_network_is_no_head() -> None:
    """Of several matrices of the right shape, the one whose answer is the logits."""

    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 3)
            self.gate = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            pooled = x.mean((2, 3))
            logits: Tensor = self.fc(pooled * self.gate(pooled).sigmoid())
            return logits

    assert neighbours.find(Gated(), SHAPE) == neighbours.Place(head="fc")


def test_without_a_head_the_last_map_is_pooled() -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 10, 3, stride=2, padding=1)
    network = nn.Sequential(convolution, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    place = neighbours.find(network, SHAPE)
    assert place == neighbours.Place(head=None, layer=gradcam.Layer(name="0", size=(4, 4)))
    x = torch.randn(2, *SHAPE)
    (features,) = neighbours.features(network, [x], place=place)
    torch.testing.assert_close(torch.from_numpy(features), convolution(x).mean((2, 3)).detach())


def test_without_a_head_and_a_map_there_is_nothing() -> None:
    assert neighbours.find(nn.Sequential(nn.Flatten()), SHAPE) is None


def test_the_network_is_left_as_it_was() -> None:
    network = tiny.staged(num_classes=5, in_channels=3).train()
    place = neighbours.find(network, SHAPE)
    assert place is not None
    list(neighbours.features(network, [torch.randn(2, *SHAPE)], place=place))
    assert all(module.training for module in network.modules())
    assert not any(module._forward_hooks for module in network.modules())
