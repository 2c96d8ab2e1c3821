"""Weights that timm or torchvision saved, under our names.

Their state dict comes in as a mapping of tensors, however it was read (safetensors, or torch.load with
weights_only=True): nothing here opens a file or unpickles. Each of their keys goes through the rules of its source,
one after another, as in re.sub; what comes out is our key. `RULES` has them, by builder and source, from the files of
the papers, which say `FROM_TIMM` and `FROM_TORCHVISION`:

    builder    source       what differs
    coatnet    timm         stages count from zero; some convolutions, norms and the tables have other names
    convnext   timm         the trunk is called stages, the last norm and matrix lie in a head, layer_scale is gamma
    convnext   torchvision  layers have numbers, blocks and halvings are counted together
    cspresnet  timm         stages count from zero, the matrix lies in a head
    ghostnet   timm         nothing
    gmlp       timm         the stem and each block's MLP lie one level deeper
    mlp_mixer  timm         the stem lies one level deeper
    resnest    timm         nothing
    resnet     timm         attention is called se
    resnet     torchvision  nothing

They load into the official form of a network (`stem="imagenet"`, official patches), and into the small form where
its shapes are the same: convnext, cspresnet, ghostnet, resnest. Of the others the small form has another stem
(resnet), matrices over tokens (gmlp, mlp_mixer) or tables of positions (coatnet). Shapes that differ by axes of size
one only, such as a 1x1 convolution's and a matrix's, are the same.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from bakeoff.errors import DataError, nearest
from bakeoff.models.coatnet import FROM_TIMM as COATNET_TIMM
from bakeoff.models.convnext import FROM_TIMM as CONVNEXT_TIMM
from bakeoff.models.convnext import FROM_TORCHVISION as CONVNEXT_TORCHVISION
from bakeoff.models.cspresnet import FROM_TIMM as CSPRESNET_TIMM
from bakeoff.models.ghostnet import FROM_TIMM as GHOSTNET_TIMM
from bakeoff.models.gmlp import FROM_TIMM as GMLP_TIMM
from bakeoff.models.mlp_mixer import FROM_TIMM as MLP_MIXER_TIMM
from bakeoff.models.resnest import FROM_TIMM as RESNEST_TIMM
from bakeoff.models.resnet import FROM_TIMM as RESNET_TIMM
from bakeoff.models.resnet import FROM_TORCHVISION as RESNET_TORCHVISION

# A regular expression and its replacement, in the order in which they are applied.
Rules = Sequence[tuple[str, str]]

RULES: Final[Mapping[str, Mapping[str, Rules]]] = {
    "coatnet": {"timm": COATNET_TIMM},
    "convnext": {"timm": CONVNEXT_TIMM, "torchvision": CONVNEXT_TORCHVISION},
    "cspresnet": {"timm": CSPRESNET_TIMM},
    "ghostnet": {"timm": GHOSTNET_TIMM},
    "gmlp": {"timm": GMLP_TIMM},
    "mlp_mixer": {"timm": MLP_MIXER_TIMM},
    "resnest": {"timm": RESNEST_TIMM},
    "resnet": {"timm": RESNET_TIMM, "torchvision": RESNET_TORCHVISION},
}

# How many batches a norm has seen: a matter of its training, not of its answers.
COUNTER: Final = "num_batches_tracked"


def adopt(network: nn.Module, state: Mapping[str, object], *, rules: Rules = (), head: bool = True) -> None:
    """Copy their weights into our network, all of them or, if anything does not fit, none.

    Counters of batches are left alone on both sides. Numbers take the network's own type and device.

    Args:
        network: ours.
        state: tensors by their names.
        rules: what turns their names into ours, such as `RULES["convnext"]["timm"]`.
        head: whether the last matrix is adopted as well; without, it stays as it is, and theirs may have another
            number of classes or be missing.

    Raises:
        DataError: a tensor that is missing, unexpected, there twice, of another shape, or none at all; says
            which, and how many others do not fit.
    """
    kept = "" if head else f"{classifier(network)}."
    ours = {key: value for key, value in network.state_dict().items() if _counts(key, kept)}
    theirs: dict[str, object] = {}
    misfits: list[_Misfit] = []
    for key, value in state.items():
        name = rename(key, rules)
        if not _counts(name, kept):
            continue
        if name in theirs:
            misfits.append(_Misfit(key=key, name=name, found=f"a second tensor for '{name}'", expected="one"))
        elif name not in ours:
            found = ("a name" if name == key else f"the name '{name}'") + " that the network has not"
            misfits.append(_Misfit(key=key, name=name, found=found, expected="one it has"))
        elif _shape(value) != _shape(ours[name]):
            misfits.append(_Misfit(key=key, name=name, found=_words(value), expected=_words(ours[name])))
        theirs[name] = value
    missing = [name for name in ours if name not in theirs]
    misfits += [_Misfit(key=k, name=k, found="no such tensor", expected=_words(ours[k])) for k in missing]
    if misfits:
        raise _refusal(misfits, ours)
    with torch.no_grad():
        for name, value in theirs.items():
            assert isinstance(value, Tensor)
            ours[name].copy_(value.reshape(ours[name].shape))


def rename(key: str, rules: Rules) -> str:
    """Return our name of their tensor."""
    for pattern, replacement in rules:
        key = re.sub(pattern, replacement, key)
    return key


def classifier(network: nn.Module) -> str:
    """Return the name of the matrix that puts out the logits: the last one, as each network makes it last."""
    names: list[str] = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    return names[-1]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Misfit:
    key: str
    name: str
    found: str
    expected: str


def _refusal(misfits: Sequence[_Misfit], ours: Mapping[str, Tensor]) -> DataError:
    first = misfits[0]
    hints = [] if first.name in ours else [nearest(first.name, ours)]
    if len(misfits) > 1:
        hints.append(f"Tensors that do not fit either: {len(misfits) - 1}.")
    hint = " ".join(filter(None, hints))
    return DataError(f"weights '{first.key}'", found=first.found, expected=first.expected, hint=hint)


def _counts(name: str, kept: str) -> bool:
    return not name.endswith(COUNTER) and not (kept and name.startswith(kept))


def _shape(value: object) -> object:
    """Return what two tensors must have in common: sizes but for ones, and whether these are whole numbers."""
    if not isinstance(value, Tensor):
        return None
    return value.is_floating_point(), [size for size in value.shape if size != 1]


def _words(value: object) -> str:
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    kind = "a tensor" if value.is_floating_point() else f"a tensor of {value.dtype}"
    return f"{kind} of shape {list(value.shape)}"
