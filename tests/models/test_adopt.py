"""Weights of timm and torchvision give the same logits here, and what does not fit is named."""

import copy
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from timm.models.cspnet import CspStagesCfg, CspStemCfg
from torch import Tensor, nn
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.resnet import BasicBlock

from bakeoff import models
from bakeoff.errors import DataError
from bakeoff.models.adopt import RULES, Rules, adopt, classifier, rename
from bakeoff.models.coatnet import coatnet
from bakeoff.models.convnext import convnext
from bakeoff.models.cspresnet import cspresnet
from bakeoff.models.ghostnet import ghostnet
from bakeoff.models.gmlp import gmlp
from bakeoff.models.mlp_mixer import mlp_mixer
from bakeoff.models.resnest import resnest
from bakeoff.models.resnet import resnet
from tests.formula import fill, numbers


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One of their networks in its official form, and how ours is built.

    Attributes:
        theirs: the function that makes theirs.
        ours: the builder, with the options that both forms share.
        official: the options of the official form.
        fits_small: whether the small form's tensors have the same shapes.
    """

    builder: str
    source: str
    theirs: Callable[[], nn.Module]
    ours: Callable[..., nn.Module]
    official: Mapping[str, object] = field(default_factory=lambda: {"stem": "imagenet"})
    fits_small: bool = True

    def our_own(self, *, num_classes: int = 10, **options: object) -> nn.Module:
        torch.manual_seed(0)
        return self.ours(num_classes=num_classes, in_channels=3, **{"image_size": 64, **self.official, **options})

    def our_small(self) -> nn.Module:
        return self.ours(num_classes=10, in_channels=3, image_size=32)

    @property
    def rules(self) -> Rules:
        return RULES[self.builder][self.source]


def of_timm(name: str, **options: object) -> Callable[[], nn.Module]:
    return partial(timm.create_model, name, num_classes=10, **options)


WIDTHS = (32, 64, 64, 96)

# Narrow and shallow where that can be had, for quick tests; tests/reference has them in full.
CASES = {
    "coatnet": Case(
        builder="coatnet",
        source="timm",
        theirs=of_timm(
            "coatnet_0_224", img_size=64, embed_dim=WIDTHS, depths=(1, 2, 2, 1), stem_width=16, head_hidden_size=96
        ),
        ours=partial(coatnet, widths=WIDTHS, depths=(1, 2, 2, 1), stem_width=16),
        fits_small=False,
    ),
    "convnext_atto": Case(  # its matrices are 1x1 convolutions
        builder="convnext",
        source="timm",
        theirs=of_timm("convnext_atto"),
        ours=partial(convnext, depths=(2, 2, 6, 2), widths=(40, 80, 160, 320)),
    ),
    "convnext": Case(
        builder="convnext",
        source="timm",
        theirs=of_timm("convnext_tiny", depths=(1, 2, 2, 1), dims=WIDTHS),
        ours=partial(convnext, depths=(1, 2, 2, 1), widths=WIDTHS),
    ),
    "convnext_torchvision": Case(
        builder="convnext",
        source="torchvision",
        theirs=lambda: torchvision.models.ConvNeXt(
            [CNBlockConfig(*args) for args in ((32, 64, 1), (64, 64, 2), (64, 64, 2), (64, None, 1))], num_classes=10
        ),
        ours=partial(convnext, depths=(1, 2, 2, 1), widths=(32, 64, 64, 64)),
    ),
    "cspresnet": Case(
        builder="cspresnet",
        source="timm",
        theirs=of_timm(
            "cspresnet50",
            stem=CspStemCfg(out_chs=16, kernel_size=7, stride=4, pool="max"),
            stages=CspStagesCfg(
                depth=(1, 2, 2, 1),
                out_chs=WIDTHS,
                stride=(1, 2),
                expand_ratio=2.0,
                bottle_ratio=0.5,
                cross_linear=True,
            ),
        ),
        ours=partial(cspresnet, depths=[1, 2, 2, 1], widths=list(WIDTHS)),
    ),
    "ghostnet_050": Case(
        builder="ghostnet", source="timm", theirs=of_timm("ghostnet_050"), ours=partial(ghostnet, width=0.5)
    ),
    "gmlp": Case(
        builder="gmlp",
        source="timm",
        theirs=of_timm("gmlp_ti16_224", img_size=64),
        ours=gmlp,
        official={"patch_size": 16},
        fits_small=False,
    ),
    "mlp_mixer": Case(
        builder="mlp_mixer",
        source="timm",
        theirs=of_timm("mixer_s32_224", img_size=64),
        ours=partial(mlp_mixer, width=512, depth=8),
        official={"patch_size": 32},
        fits_small=False,
    ),
    "resnest14d": Case(builder="resnest", source="timm", theirs=of_timm("resnest14d"), ours=partial(resnest, depth=14)),
    "resnet_eca": Case(
        builder="resnet",
        source="timm",
        theirs=of_timm("resnet18", layers=(1, 1, 1, 1), block_args={"attn_layer": "eca"}),
        ours=partial(resnet, depth=10, attention={"name": "eca", "kernel_size": "adaptive"}),
        fits_small=False,
    ),
    "resnet_torchvision": Case(
        builder="resnet",
        source="torchvision",
        theirs=lambda: torchvision.models.ResNet(BasicBlock, [1, 1, 1, 1], num_classes=10),
        ours=partial(resnet, depth=10),
        fits_small=False,
    ),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def logits(network: nn.Module) -> Tensor:
    with torch.no_grad():
        return network.double().eval()(numbers((2, 3, 64, 64), salt=7))


def test_every_mapping_has_a_case() -> None:
    mapped = {(builder, source) for builder, sources in RULES.items() for source in sources}
    assert {(case.builder, case.source) for case in CASES.values()} == mapped


def test_every_mapping_in_a_paper_is_in_the_table() -> None:
    """A builder stands for its file: no file with a constant may be forgotten."""
    for path in Path(models.__file__).parent.glob("*.py"):
        for source in re.findall(r"^FROM_([A-Z]+)\b", path.read_text(encoding="utf-8"), re.MULTILINE):
            assert source.lower() in RULES.get(path.stem, {}), (path.name, source)


@every_case
def test_their_weights_give_their_logits_and_fit_the_small_form_where_shapes_agree(case: Case) -> None:
    theirs = case.theirs().double()
    fill(theirs)
    ours = case.our_own().double()
    before = logits(ours)
    adopt(ours, theirs.state_dict(), rules=case.rules)
    expected = logits(theirs)
    assert expected.std() > 1e-3
    scale = expected.abs().max()
    assert (before - expected).abs().max() > 0.1 * scale
    torch.testing.assert_close(logits(ours) / scale, expected / scale, rtol=0, atol=1e-11)

    small = case.our_small().double()
    if not case.fits_small:
        with pytest.raises(DataError, match="shape"):
            adopt(small, theirs.state_dict(), rules=case.rules)
        return
    adopt(small, theirs.state_dict(), rules=case.rules)
    official, adopted = ours.state_dict(), small.state_dict()
    assert official.keys() == adopted.keys()
    assert all(torch.equal(official[key], value) for key, value in adopted.items() if "num_batches" not in key)


@every_case
def test_the_classifier_is_the_matrix_of_the_logits(case: Case) -> None:
    with torch.device("meta"):
        network = case.our_own(num_classes=7)
    assert network.get_submodule(classifier(network)).out_features == 7


@cache
def _tiny() -> nn.Module:
    return cspresnet(num_classes=3, in_channels=1, image_size=8, depths=(1, 1), widths=(4, 8))


@pytest.fixture
def tiny() -> nn.Module:
    """A network of ours whose numbers are its own, and whose names are known."""
    network = copy.deepcopy(_tiny())
    fill(network)
    return network


@pytest.fixture
def state(tiny: nn.Module) -> dict[str, object]:
    """The same, as somebody saved it: twice each number."""
    return {key: value * 2 if value.is_floating_point() else value for key, value in tiny.state_dict().items()}


def test_tensors_are_copied_not_shared_and_take_our_type(tiny: nn.Module, state: dict[str, object]) -> None:
    halves = {key: value.half() for key, value in state.items()}  # type: ignore[attr-defined]
    was = tiny.fc.weight.detach().clone()
    adopt(tiny, halves | {"stem.conv1.bn.num_batches_tracked": torch.tensor(9)})
    assert tiny.fc.weight.dtype == torch.float32
    torch.testing.assert_close(tiny.fc.weight.detach(), was * 2, rtol=1e-3, atol=1e-3)
    halves["fc.weight"].zero_()
    assert tiny.fc.weight.abs().max() > 0
    assert tiny.fc.weight.requires_grad


def test_counters_of_batches_do_not_matter(tiny: nn.Module, state: dict[str, object]) -> None:
    tiny.stem.conv1.bn.num_batches_tracked.fill_(5)
    adopt(tiny, {key: value for key, value in state.items() if "num_batches" not in key})
    adopt(tiny, state | {"elsewhere.num_batches_tracked": torch.tensor(9)})
    assert tiny.stem.conv1.bn.num_batches_tracked == 5


def test_axes_of_size_one_do_not_matter(tiny: nn.Module, state: dict[str, object]) -> None:
    weight = state["layer1.conv_exp.conv.weight"]
    assert isinstance(weight, Tensor)
    adopt(tiny, state | {"layer1.conv_exp.conv.weight": weight.flatten(1), "fc.weight": state["fc.weight"][..., None]})  # type: ignore[index]
    assert torch.equal(tiny.layer1.conv_exp.conv.weight, weight)


def test_rules_are_applied_in_order(tiny: nn.Module) -> None:
    assert rename("stages.0.blocks.1.gamma", ((r"^stages\.(\d)", r"layer\1"), (r"layer0", "layer9"))) == (
        "layer9.blocks.1.gamma"
    )
    theirs = {f"net.{key}": value for key, value in tiny.state_dict().items()}
    adopt(tiny, theirs, rules=((r"^net\.", ""),))


@pytest.mark.parametrize("classes", [0, 5], ids=["no head", "another head"])
def test_a_head_can_be_left_out(tiny: nn.Module, state: dict[str, object], classes: int) -> None:
    was = tiny.fc.weight.detach().clone()
    trunk = {key: value for key, value in state.items() if not key.startswith("fc.")}
    theirs = trunk | ({"fc.weight": torch.ones(classes, 8), "fc.bias": torch.ones(classes)} if classes else {})
    with pytest.raises(DataError, match="fc"):
        adopt(tiny, theirs)
    adopt(tiny, theirs, head=False)
    assert torch.equal(tiny.fc.weight, was)
    assert torch.equal(tiny.layer2.conv_exp.bn.bias, state["layer2.conv_exp.bn.bias"])  # type: ignore[arg-type]


WEIGHT = "layer1.conv_down.conv.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fc.bias": None}, r"weights 'fc\.bias': found no such tensor; expected a tensor of shape \[3\]\.$"),
        (
            {"fc.bias": None, "fc.weight": None},
            r"'fc\.weight': found no such tensor.* fit either: 1",
        ),
        ({"fc.bais": torch.ones(3)}, r"'fc\.bais': found a name that the network has not.*'fc\.bias'"),
        ({"old.fc.bias": torch.ones(3)}, r"'old\.fc\.bias': found a second tensor for 'fc\.bias'; expected one\.$"),
        ({"old.x": torch.ones(3)}, r"'old\.x': found the name 'x' that the network has not"),
        ({"fc.weight": torch.ones(8, 3)}, r"'fc\.weight': found a tensor of shape \[8, 3\]; expected .* \[3, 8\]\.$"),
        ({"fc.weight": torch.ones(24)}, r"'fc\.weight': found a tensor of shape \[24\]; expected .* \[3, 8\]"),
        ({"fc.bias": [1.0, 2.0, 3.0]}, r"'fc\.bias': found a list; expected a tensor of shape \[3\]"),
        (
            {"fc.bias": torch.ones(3).int()},
            r"'fc\.bias': found a tensor of torch\.int32 of shape \[3\]; expected a tensor of",
        ),
        ({"fc.bias": torch.ones(2), "fc.weight": torch.ones(2, 8), "x": 0}, r"'fc\.weight'.* fit either: 2"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_changed(
    tiny: nn.Module, state: dict[str, object], change: dict[str, object], message: str
) -> None:
    was = {key: value.clone() for key, value in tiny.state_dict().items()}
    theirs = {key: value for key, value in (state | change).items() if value is not None}
    with pytest.raises(DataError, match=message):
        adopt(tiny, theirs, rules=((r"^old\.", ""),))
    assert all(torch.equal(was[key], value) for key, value in tiny.state_dict().items())


def test_a_whole_checkpoint_instead_of_its_tensors_is_refused(tiny: nn.Module, state: dict[str, object]) -> None:
    with pytest.raises(DataError, match=r"'state_dict': found a name that the network has not"):
        adopt(tiny, {"state_dict": state, "epoch": 3})
