"""Ours and torchvision's compute the same, forwards and backwards, evaluating and training, to 1e-9."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import models as torchvision_models

from bakeoff import models

NAMES = ["resnet18", "resnet34", "resnet50"]


def pair(name: str, *, stem: str) -> tuple[nn.Module, nn.Module]:
    """Build both in float64 with the same random weights, biases and statistics."""
    ours = models.build(name, num_classes=10, stem=stem)
    with torch.device("meta"):  # its own first weights are not needed
        theirs = getattr(torchvision_models, name)(num_classes=10)
        if stem == "small":
            theirs.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
            theirs.maxpool = nn.Identity()
    randomise(ours.double())
    theirs.load_state_dict(copy.deepcopy(ours.state_dict()), assign=True)
    return ours, theirs


def randomise(network: nn.Module) -> None:
    generator = torch.Generator().manual_seed(3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for value in (module.weight.data, module.running_var):
                value.uniform_(0.5, 1.5, generator=generator)  # type: ignore[union-attr]
            for value in (module.bias.data, module.running_mean):
                value.normal_(std=0.3, generator=generator)  # type: ignore[union-attr]
        elif isinstance(module, nn.Linear):
            module.weight.data.normal_(std=0.1, generator=generator)
            module.bias.data.normal_(generator=generator)


def close(ours: Tensor, theirs: Tensor) -> None:
    scale = theirs.abs().max().clamp(min=1.0)
    torch.testing.assert_close(ours / scale, theirs / scale, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "stem", "size"),
    [(name, "small", 16) for name in NAMES] + [("resnet18", "imagenet", 64), ("resnet50", "imagenet", 64)],
)
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_parity(name: str, stem: str, size: int, training: bool) -> None:
    ours, theirs = pair(name, stem=stem)
    x = torch.randn(2, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    results = []
    for network in (ours, theirs):
        logits = network.train(training)(x)
        F.cross_entropy(logits / logits.detach().std(), torch.tensor([3, 7])).backward()
        results.append(logits.detach())
    assert results[1].std() > 0.1  # not two nets that agree on nothing
    close(*results)
    for (name_ours, p), (name_theirs, q) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert name_ours == name_theirs
        assert p.grad is not None
        assert q.grad is not None
        close(p.grad, q.grad)
    for a, b in zip(ours.buffers(), theirs.buffers(), strict=True):
        close(a.double(), b.double())


def test_the_comparison_can_fail() -> None:
    ours, theirs = pair("resnet18", stem="small")
    next(m for m in theirs.modules() if isinstance(m, nn.BatchNorm2d)).eps = 1.1e-5
    x = torch.ones(2, 3, 16, 16, dtype=torch.float64)
    with pytest.raises(AssertionError):
        close(ours.eval()(x), theirs.eval()(x))
