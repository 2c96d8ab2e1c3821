from unittest import mock

import pytest
import torch
from torch import Tensor, nn

from bakeoff import models, optim
from bakeoff.optim import muon
from bakeoff.optim.muon import Muon, hidden_weights, orthogonalise


def gradients(shape: tuple[int, ...], *, step: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(step))


def muon_group(params: list[nn.Parameter], **changed: object) -> dict[str, object]:
    settings = {"algorithm": "muon", "lr": 0.02, "weight_decay": 0.1, "momentum": 0.95, "nesterov": True}
    return {"params": params, **settings, **changed}


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("shapes", [[(16, 40)], [(40, 16)], [(12, 12), (12, 12), (30, 7)]])
def test_on_matrices_it_is_torchs_muon_to_the_bit(shapes: list[tuple[int, int]], nesterov: bool) -> None:
    ours = [nn.Parameter(gradients(shape, step=99)) for shape in shapes]
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    mine = Muon([muon_group(ours, nesterov=nesterov)])
    reference = torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1, momentum=0.95, nesterov=nesterov)
    for step in range(5):
        for i, (p, q) in enumerate(zip(ours, theirs, strict=True)):
            p.grad = gradients(p.shape, step=10 * step + i)
            q.grad = p.grad.clone()
        mine.step()
        reference.step()
    assert all(torch.equal(p, q) for p, q in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_filter_moves_as_its_matrix_does(channels_last: bool) -> None:
    start, gradient = gradients((8, 4, 3, 3), step=1), gradients((8, 4, 3, 3), step=2)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    filters = nn.Parameter(start.clone(memory_format=layout))
    matrix = nn.Parameter(start.flatten(1).clone())
    filters.grad, matrix.grad = gradient.contiguous(memory_format=layout), gradient.flatten(1)
    for p in (filters, matrix):
        Muon([muon_group([p])]).step()
    assert torch.equal(filters.flatten(1), matrix)
    assert not torch.equal(filters, start)


@pytest.mark.parametrize("shape", [(3, 16, 64), (2, 64, 16), (1, 32, 32)])
def test_singular_values_come_near_one(shape: tuple[int, int, int]) -> None:
    matrices = gradients(shape, step=3) * torch.tensor([1e-3, 1.0, 50.0])[: shape[0], None, None]
    singular = torch.linalg.svdvals(orthogonalise(matrices).float())
    assert singular.max() < 1.3
    # The iteration lifts small singular values only so far; those of a square matrix reach down to zero.
    assert singular.median() > 0.6
    if shape[1] != shape[2]:
        assert singular.min() > 0.5


def test_it_is_the_polynomial_of_the_post() -> None:
    a, b, c = 3.4445, -4.7750, 2.0315
    matrix = gradients((6, 9), step=4).double()
    u, s, vh = torch.linalg.svd(matrix / matrix.norm(), full_matrices=False)
    for _ in range(5):
        s = a * s + b * s**3 + c * s**5
    # bfloat16 carries three digits.
    torch.testing.assert_close(orthogonalise(matrix[None])[0].double(), u @ s.diag() @ vh, rtol=0, atol=0.03)


def test_a_gradient_of_zeros_moves_nothing_but_decay() -> None:
    p = nn.Parameter(torch.ones(4, 4))
    p.grad = torch.zeros(4, 4)
    Muon([muon_group([p], weight_decay=0.5)]).step()
    torch.testing.assert_close(p.detach(), torch.full((4, 4), 1 - 0.02 * 0.5))


def test_it_works_on_filters_and_matrices_and_leaves_the_head() -> None:
    network = models.build("resnet_20", num_classes=10)
    optimizer = optim.build("muon", network, lr=0.02, weight_decay=0.01, rest="sgd", rest_lr=0.1)
    names = {id(p): name for name, p in network.named_parameters()}
    found: dict[str, set[str]] = {"muon": set(), "sgd": set()}
    for group in optimizer.param_groups:
        found[group["algorithm"]] |= {names[id(p)] for p in group["params"]}
        assert group["lr"] == {"muon": 0.02, "sgd": 0.1}[group["algorithm"]]
    filters = {name for name, p in network.named_parameters() if p.ndim == 4}
    assert found == {"muon": filters, "sgd": set(names.values()) - filters}
    assert "fc.weight" in found["sgd"]


def test_a_hidden_matrix_is_told_from_the_head() -> None:
    mlp = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 3))
    assert hidden_weights(mlp) == {"0.weight", "2.weight"}


@pytest.mark.parametrize("rest", ["sgd", "adamw"])
def test_the_rest_moves_as_under_torchs_own(rest: str) -> None:
    ours, theirs = (nn.Parameter(gradients((5,), step=7)) for _ in range(2))
    settings = {
        "sgd": {"momentum": 0.9, "nesterov": True},
        "adamw": {"betas": (0.9, 0.999), "eps": 1e-8},
    }[rest]
    mine = Muon([{"params": [ours], "algorithm": rest, "lr": 0.1, "weight_decay": 0.01, **settings}])
    kind = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[rest]
    reference = kind([theirs], lr=0.1, weight_decay=0.01, **settings)  # type: ignore[arg-type]
    for step in range(4):
        ours.grad = gradients((5,), step=step)
        theirs.grad = ours.grad.clone()
        mine.step()
        reference.step()
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("rest", ["sgd", "adamw"])
def test_it_learns(rest: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 32), nn.Linear(32, 4))
    optimizer = optim.build("muon", net, lr=0.02, weight_decay=0.0, rest=rest, rest_lr=0.01)
    x, y = torch.randn(16, 1, 6, 6), torch.arange(16) % 4
    for _ in range(60):
        loss = nn.functional.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


@pytest.mark.parametrize("shape", [(256, 600), (600, 256), (300, 2000)])
def test_a_large_matrix_goes_through_its_gram_as_near_to_the_exact_result_as_directly(shape: tuple[int, int]) -> None:
    left, _, right = torch.linalg.svd(gradients(shape, step=4), full_matrices=False)
    matrix = left @ torch.diag(torch.logspace(0, -3, min(shape))) @ right  # as uneven as gradients are
    exact = matrix.double() / matrix.double().norm()
    exact = exact.mT if shape[0] > shape[1] else exact
    for _ in range(muon.NUM_ITERATIONS):
        gram = exact @ exact.mT
        exact = muon.A * exact + (muon.B * gram + muon.C * gram @ gram) @ exact
    exact = exact.mT if shape[0] > shape[1] else exact

    def away(found: Tensor) -> float:
        return float((found.double() - exact).norm() / exact.norm())

    with mock.patch.object(muon, "LARGE", 10_000):
        directly = away(orthogonalise(matrix[None])[0])
    through = away(orthogonalise(matrix[None])[0])
    assert through != directly
    assert through < max(1.2 * directly, 0.1)


def test_unit_filters_have_one_norm_before_they_are_moved_and_no_decay() -> None:
    start, gradient = gradients((8, 4, 3, 3), step=1), gradients((8, 4, 3, 3), step=2)
    moved = []
    for scale in (1.0, 7.0):
        p = nn.Parameter(start * scale)
        p.grad = gradient.clone()
        Muon([muon_group([p], unit_filters=True, lr=0.3, momentum=0.0, nesterov=False)]).step()
        moved.append(p.detach())
    torch.testing.assert_close(*moved)  # only the direction of what it was counts
    direction = orthogonalise(gradient.flatten(1)[None])[0].reshape(start.shape).float()
    torch.testing.assert_close(moved[0], start * (8**0.5 / start.norm()) - 0.3 * direction)


def test_biases_have_a_rate_of_their_own_where_one_is_asked_for() -> None:
    model = models.build("speednet", num_classes=10, widths=(16, 16, 16))
    built = optim.build("muon", model, lr=0.2, weight_decay=0.1, rest="sgd", rest_lr=0.03, bias_lr=5.0)
    rates = {group["lr"]: {p.ndim for p in group["params"]} for group in built.param_groups}
    assert rates == {0.2: {4}, 0.03: {2}, 5.0: {1}}
    assert {group["weight_decay"] for group in built.param_groups if group["lr"] == 5.0} == {0.0}
    assert id(model.whiten.weight) not in {id(p) for g in built.param_groups for p in g["params"]}
