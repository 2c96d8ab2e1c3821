"""Every model by name: which builder with which options, its paper, its recipe family and its cost.

No torch here: `list` and the check of a study need names and costs, not networks.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

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
        params: trainable parameters at 100 classes.
        macs: multiply-adds for one 3x32x32 picture.
    """

    name: str
    builder: str
    options: Mapping[str, object] = field(default_factory=dict)
    family: str
    paper: str
    year: int
    params: int
    macs: int


RESNET = "He et al., Deep Residual Learning for Image Recognition, https://arxiv.org/abs/1512.03385"


def _small_resnet(depth: int, *, params: int, macs: int) -> Model:
    return Model(
        name=f"resnet_{depth}",
        builder="small_resnet",
        options={"depth": depth},
        family="small_convnet",
        paper=RESNET,
        year=2015,
        params=params,
        macs=macs,
    )


def _resnet(depth: int, *, params: int, macs: int) -> Model:
    return Model(
        name=f"resnet{depth}",
        builder="resnet",
        options={"depth": depth},
        family="middle_convnet",
        paper=RESNET,
        year=2015,
        params=params,
        macs=macs,
    )


MODELS: dict[str, Model] = {
    "resnet_20": _small_resnet(20, params=278_324, macs=40_818_944),
    "resnet_32": _small_resnet(32, params=472_756, macs=69_130_496),
    "resnet_44": _small_resnet(44, params=667_188, macs=97_442_048),
    "resnet_56": _small_resnet(56, params=861_620, macs=125_753_600),
    "resnet_110": _small_resnet(110, params=1_736_564, macs=253_155_584),
    "resnet10": _resnet(10, params=4_949_412, macs=253_478_912),
    "resnet18": _resnet(18, params=11_220_132, macs=555_468_800),
    "resnet34": _resnet(34, params=21_328_292, macs=1_159_448_576),
    "resnet50": _resnet(50, params=23_705_252, macs=1_298_014_208),
}


DATASETS: dict[str, str] = {
    "cifar100": "60,000 pictures of 32x32 px in 100 classes and 20 superclasses (Krizhevsky 2009)",
    "cifar10": "60,000 pictures of 32x32 px in 10 classes (Krizhevsky 2009)",
    "digits": "1,797 handwritten digits of 8x8 px; comes with scikit-learn, needs no download",
}


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
