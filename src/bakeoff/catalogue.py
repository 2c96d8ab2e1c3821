"""Every model by name: which builder with which options, its paper, its recipe family; every data set by name.

No torch here: `list` and the check of a study need names and costs, not networks. The costs were counted once, into
library/costs.csv, which a test holds to the truth.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType

from bakeoff import library
from bakeoff.errors import RecipeError, nearest


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """One name of the catalogue.

    Attributes:
        name: as it is written in records and reports.
        builder: the function of `models.BUILDERS` that builds it.
        options: what that function is given.
        family: the recipe card for its kind of network.
        paper: authors, title and address.
        year: when the paper first appeared.
    """

    name: str
    builder: str
    options: Mapping[str, object] = field(default_factory=dict)
    family: str
    paper: str
    year: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Costs:
    """What a model costs with 100 classes for one picture of 3x32x32, as `models.cost` counts it.

    Attributes:
        params: trainable parameters.
        macs: multiply-adds.
        activations: elements that convolutions and matrix products put out.
    """

    params: int
    macs: int
    activations: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """One data set that bakeoff finds by name.

    Attributes:
        about: what it is, in a line.
        num_classes: how many.
        image_shape: channels, height, width.
        num_train: images to train and validate on.
        num_test: images to test on.
        num_val: of those to train on, how many the source itself sets apart for validation.
    """

    about: str
    num_classes: int
    image_shape: tuple[int, int, int]
    num_train: int
    num_test: int
    num_val: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """Names that share a builder, a paper and a family of recipes; each with the options that make it."""

    builder: str
    family: str
    paper: str
    year: int
    names: Mapping[str, Mapping[str, object]]


def _attention(name: str, depth: int = 20, **options: object) -> dict[str, object]:
    return {"depth": depth, "attention": {"name": name, **options}}


RESNET = "He et al., Deep Residual Learning for Image Recognition, https://arxiv.org/abs/1512.03385"
ECA = "Wang et al., ECA-Net: Efficient Channel Attention for Deep CNNs, https://arxiv.org/abs/1910.03151"
GHOSTNET = "Han et al., GhostNet: More Features from Cheap Operations, https://arxiv.org/abs/1911.11907"
CONVNEXT = "Liu et al., A ConvNet for the 2020s, https://arxiv.org/abs/2201.03545"
COATNET = "Dai et al., CoAtNet: Marrying Convolution and Attention, https://arxiv.org/abs/2106.04803"

SERIES = (
    Series(
        builder="small_resnet",
        family="small_convnet",
        paper=RESNET,
        year=2015,
        names={
            "resnet_20": {"depth": 20},
            "resnet_32": {"depth": 32},
            "resnet_44": {"depth": 44},
            "resnet_56": {"depth": 56},
            "resnet_110": {"depth": 110},
            "resnet20_no_eca": {"depth": 20},
        },
    ),
    Series(
        builder="resnet",
        family="middle_convnet",
        paper=RESNET,
        year=2015,
        names={
            "resnet10": {"depth": 10},
            "resnet18": {"depth": 18},
            "resnet34": {"depth": 34},
            "resnet50": {"depth": 50},
        },
    ),
    Series(
        builder="speednet",
        family="speedrun",
        paper="Jordan, 94% on CIFAR-10 in 3.29 Seconds on a Single GPU, https://arxiv.org/abs/2404.00498",
        year=2024,
        names={"speednet": {}},
    ),
    Series(
        builder="small_resnet",
        family="small_convnet",
        paper=ECA,
        year=2019,
        names={
            "eca_resnet_20": _attention("eca", kernel_size=3),
            "eca_resnet_32": _attention("eca", 32, kernel_size=5),
            "ecanet20_fixed_k3": _attention("eca", kernel_size=3),
            "ecanet20_fixed_k5": _attention("eca", kernel_size=5),
            "ecanet20_fixed_k7": _attention("eca", kernel_size=7),
            "ecanet20_fixed_k9": _attention("eca", kernel_size=9),
            "ecanet20_adaptive": _attention("eca", kernel_size="adaptive"),
            "eca_resnet20_pos1": {**_attention("eca", kernel_size=3), "attention_position": "after_first"},
            "eca_resnet20_pos3": {**_attention("eca", kernel_size=3), "attention_position": "after_add"},
        },
    ),
    Series(
        builder="small_resnet",
        family="small_convnet",
        paper="Hu et al., Squeeze-and-Excitation Networks, https://arxiv.org/abs/1709.01507",
        year=2017,
        names={"se_resnet_20": _attention("se"), "se_resnet_56": _attention("se", 56)},
    ),
    Series(
        builder="small_resnet",
        family="small_convnet",
        paper="Woo et al., CBAM: Convolutional Block Attention Module, https://arxiv.org/abs/1807.06521",
        year=2018,
        names={"cbam_resnet_20": _attention("cbam")},
    ),
    Series(
        builder="small_resnet",
        family="small_convnet",
        paper="Yang et al., SimAM: A Simple, Parameter-Free Attention Module, https://proceedings.mlr.press/v139/yang21o.html",
        year=2021,
        names={"simam_resnet_20": _attention("simam")},
    ),
    Series(
        builder="small_resnet",
        family="small_convnet",
        paper="Hou et al., Coordinate Attention for Efficient Mobile Network Design, https://arxiv.org/abs/2103.02907",
        year=2021,
        names={"coordinate_resnet_20": _attention("coordinate")},
    ),
    Series(
        builder="ghost_resnet",
        family="small_convnet",
        paper=GHOSTNET,
        year=2019,
        names={
            "ghost_resnet_20": {"depth": 20},
            "ghost_resnet_32": {"depth": 32},
            "ghost_resnet_56": {"depth": 56},
            "ghost_resnet20_ratio3": {"depth": 20, "ratio": 3},
            "ghost_resnet20_ratio4": {"depth": 20, "ratio": 4},
            "ghostCopy_resnet_20": {"depth": 20, "ratio": "copy"},
        },
    ),
    Series(
        builder="improved_resnet",
        family="small_convnet",
        paper=CONVNEXT,
        year=2022,
        names={
            "improved_resnet20_convnext": {"drop_path": 0.05},
            "improved_resnet20_convnext_no_droppath": {"drop_path": 0.0},
            "improved_resnet20_convnext_std_conv": {"drop_path": 0.05, "kernel_size": 3, "depthwise": False},
            "improved_resnet20_convnext_no_inverted": {"drop_path": 0.05, "inverted": False},
        },
    ),
    Series(
        builder="ghostnet",
        family="middle_convnet",
        paper=GHOSTNET,
        year=2019,
        names={"ghostnet_100": {}},
    ),
    Series(
        builder="cspresnet",
        family="middle_convnet",
        paper="Wang et al., CSPNet: A New Backbone that can Enhance Learning Capability, https://arxiv.org/abs/1911.11929",
        year=2019,
        names={"cspresnet50": {}},
    ),
    Series(
        builder="resnest",
        family="middle_convnet",
        paper="Zhang et al., ResNeSt: Split-Attention Networks, https://arxiv.org/abs/2004.08955",
        year=2020,
        names={"resnest14d": {"depth": 14}, "resnest50d": {"depth": 50}},
    ),
    Series(
        builder="convnext",
        family="modern",
        paper=CONVNEXT,
        year=2022,
        names={
            "convnext_atto": {"depths": (2, 2, 6, 2), "widths": (40, 80, 160, 320)},
            "convnext_nano": {"depths": (2, 2, 8, 2), "widths": (80, 160, 320, 640)},
            "convnext_tiny": {},
        },
    ),
    Series(
        builder="hornet",
        family="modern",
        paper="Rao et al., HorNet: Efficient High-Order Spatial Interactions, https://arxiv.org/abs/2207.14284",
        year=2022,
        names={"hornet_tiny": {}, "hornet_micro": {"widths": (32, 64, 128, 256), "depths": (3, 3, 9, 3)}},
    ),
    Series(
        builder="mscan",
        family="modern",
        paper="Guo et al., SegNeXt: Rethinking Convolutional Attention Design, https://arxiv.org/abs/2209.08575",
        year=2022,
        names={
            "mscan_tiny": {},
            "segnext_mscan_tiny": {"widths": (32, 64, 160), "depths": (1, 1, 2), "mlp_ratios": (8, 8, 4)},
        },
    ),
    Series(
        builder="lsknet",
        family="modern",
        paper="Li et al., Large Selective Kernel Network, https://arxiv.org/abs/2303.09030",
        year=2023,
        names={"lsknet_tiny": {}},
    ),
    Series(
        builder="mlp_mixer",
        family="modern",
        paper="Tolstikhin et al., MLP-Mixer: An all-MLP Architecture for Vision, https://arxiv.org/abs/2105.01601",
        year=2021,
        names={"mlp_mixer_tiny": {}, "mlp_mixer_b16": {"width": 768}},
    ),
    Series(
        builder="gmlp",
        family="modern",
        paper="Liu et al., Pay Attention to MLPs, https://arxiv.org/abs/2105.08050",
        year=2021,
        names={"gmlp_tiny": {}},
    ),
    Series(
        builder="cct",
        family="modern",
        paper="Hassani et al., Escaping the Big Data Paradigm with Compact Transformers, https://arxiv.org/abs/2104.05704",
        year=2021,
        names={"cct_7_3x1": {}},
    ),
    Series(
        builder="coatnet",
        family="modern",
        paper=COATNET,
        year=2021,
        names={"coatnet_0": {}, "coatnet_0_custom_enhanced": {"attention": "lsk"}},
    ),
    Series(
        builder="coatnet_cifar",
        family="modern",
        paper=COATNET,
        year=2021,
        names={"coatnet_cifar_opt": {}, "coatnet_cifar_opt_large_stem": {"stem_kernel_size": 5}},
    ),
)

MODELS: dict[str, Model] = {
    name: Model(
        name=name, builder=series.builder, options=options, family=series.family, paper=series.paper, year=series.year
    )
    for series in SERIES
    for name, options in series.names.items()
}

DATASETS: dict[str, Dataset] = {
    "cifar100": Dataset(
        about="60,000 pictures of 32x32 px in 100 classes and 20 superclasses (Krizhevsky 2009)",
        num_classes=100,
        image_shape=(3, 32, 32),
        num_train=50_000,
        num_test=10_000,
    ),
    "cifar10": Dataset(
        about="60,000 pictures of 32x32 px in 10 classes (Krizhevsky 2009)",
        num_classes=10,
        image_shape=(3, 32, 32),
        num_train=50_000,
        num_test=10_000,
    ),
    "digits": Dataset(
        about="1,797 handwritten digits of 8x8 px; comes with scikit-learn, needs no download",
        num_classes=10,
        image_shape=(1, 8, 8),
        num_train=1_438,
        num_test=359,
    ),
}


OWN = ("folder:", "csv:", "parquet:", "hf:")  # stand before where a person's own pictures are
TIMM = "timm:"  # stands before the name of a network that PyTorch Image Models builds
RANDOM = "random:"  # stands before the name of a network that teaches without having learnt anything: a control


def is_own(data: str) -> bool:
    """Tell whether this names a person's own pictures, and no published set."""
    return data.startswith(OWN)


def is_plugin(name: str) -> bool:
    """Tell whether this is `package.module:function`, a person's own code; `timm:NAME` was installed on purpose."""
    return ":" in name and not name.startswith(TIMM)


@cache
def costs() -> Mapping[str, Costs]:
    """Return the stored cost of every model."""
    with library.costs_table().open(newline="", encoding="utf-8") as file:
        rows = {row.pop("name"): row for row in csv.DictReader(file)}
    return MappingProxyType({name: Costs(**{k: int(v) for k, v in row.items()}) for name, row in rows.items()})


def is_known(name: str) -> bool:
    """Tell whether `find` would find a model of this name."""
    return any(_plain(known) == _plain(name) for known in MODELS)


def find(name: str) -> Model:
    """Return the model of this name, however its underscores, hyphens and capitals are written.

    Raises:
        RecipeError: no such model; names the nearest.
    """
    for known, model in MODELS.items():
        if _plain(known) == _plain(name):
            return model
    hint = nearest(name.casefold(), MODELS)
    raise RecipeError("model.name", found=f"'{name}'", expected=f"one of {', '.join(MODELS)}", hint=hint)


def _plain(name: str) -> str:
    return name.replace("_", "").replace("-", "").casefold()
