"""The maps of a network's stages, for what looks inside: they are put out beside the logits."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bakeoff.errors import RecipeError
from bakeoff.models.cost import on_meta

Shape = tuple[int, int, int]  # channels, height, width


class Tapped(nn.Module):
    """A network that puts out the maps of some of its modules too. Its weights and its mode are the network's.

    Args:
        network: maps pictures to logits.
        names: of modules in it, each called once in a forward pass.
    """

    def __init__(self, network: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.network = network
        self._seen: list[Tensor] | None = None  # none between passes: the network is also called without us
        for name in names:
            network.get_submodule(name).register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if self._seen is not None:
            self._seen.append(output)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Map pictures [b c h w] to logits [b classes] and the maps of the modules, in the order of their calls."""
        maps: list[Tensor] = []
        self._seen = maps
        logits = self.network(x)
        self._seen = None
        return logits, tuple(maps)


def names(network: nn.Module) -> list[str]:
    """Return the modules that put out the maps of a network's stages; none where it does not say."""
    known = getattr(network, "stages", None)
    if isinstance(known, list):
        return list(known)
    features = getattr(network, "feature_info", None)  # of timm's networks
    return [str(info["module"]) for info in features] if isinstance(features, list) else []


def shapes(network: nn.Module, image_shape: Shape, *, where: str) -> list[Shape]:
    """Return the shape of each stage's maps, by showing the network a picture without numbers.

    Raises:
        RecipeError: the network says nothing of stages, or they put out something else than maps.
    """
    found, expected = "a network that does not say where its stages are", "one whose stages put out maps"
    listed = names(network)
    maps: tuple[Tensor, ...] = ()
    if listed:
        with torch.no_grad():
            _, maps = Tapped(on_meta(network), listed).eval()(torch.empty(2, *image_shape, device="meta"))
    if not maps or any(map_.ndim != 4 for map_ in maps):
        if maps:
            found = f"stages that put out {', '.join(str(tuple(map_.shape[1:])) for map_ in maps)}"
        raise RecipeError(where, found=found, expected=expected)
    return [(map_.shape[1], map_.shape[2], map_.shape[3]) for map_ in maps]
