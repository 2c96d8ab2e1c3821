"""Where a network looked: which places of its last map raise the logit of a class.

Paper:   Selvaraju et al., "Grad-CAM", 2017. https://arxiv.org/abs/1610.02391
Follows: section 3, equations 1 and 2: channels weighted by their mean gradient, summed, negative sums cut off.
Differs: the map is that of the network's last stage; tokens that cover a square are read as the map that they are.
         It is returned as it is, not scaled to 1.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bakeoff.models import stages

Shape = tuple[int, int, int]  # channels, height, width
Tell = Callable[[str, Tensor, Tensor], None]  # a module's name, its first input, its output


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """The module whose output is read as a map.

    Args:
        name: of the module in the network.
        size: height and width of the map.
        prefix: tokens before the first that has a place, such as a class token.
        channels_last: whether an output of four dimensions is [b h w c].
    """

    name: str
    size: tuple[int, int]
    prefix: int = 0
    channels_last: bool = False

    def read(self, output: Tensor) -> Tensor:
        """Turn the module's output, or a gradient of its shape, into a map [b c h w]."""
        if output.ndim == 3:
            tokens = output[:, self.prefix :].transpose(1, 2)
            return tokens.reshape(*tokens.shape[:2], *self.size)
        return output.permute(0, 3, 1, 2) if self.channels_last else output


@contextmanager
def listening(network: nn.Module, names: Iterable[str], tell: Tell) -> Iterator[None]:
    """Put the network into evaluation mode and tell what its modules take and give; leave it as it was found.

    Args:
        network: any.
        names: of the modules to listen to.
        tell: is called whenever one of them has turned a tensor into a tensor.
    """

    def hook(name: str) -> Callable[[nn.Module, tuple[object, ...], object], None]:
        def heard(module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
            if isinstance(output, Tensor) and inputs and isinstance(inputs[0], Tensor):
                tell(name, inputs[0], output)

        return heard

    modes = [(module, module.training) for module in network.modules()]
    with ExitStack() as stack:
        for name in names:
            stack.enter_context(network.get_submodule(name).register_forward_hook(hook(name)))
        try:
            network.eval()
            yield
        finally:
            for module, training in modes:
                module.training = training


def find(network: nn.Module, image_shape: Shape, *, device: torch.device | None = None) -> Layer | None:
    """Return the last stage whose output is a map of more than one place, or None where nothing puts out a map.

    Of a network that does not say where its stages are, it is the last module whose output [b c h w] is a map.

    Args:
        network: on `device`.
        image_shape: of the pictures that it takes.
        device: where it is; None is the CPU.
    """
    names = [name for name, _ in network.named_modules() if name]
    shapes: dict[str, torch.Size] = {}  # in the order in which the modules were done

    def keep(name: str, x: Tensor, output: Tensor) -> None:
        shapes.pop(name, None)
        shapes[name] = output.shape

    with listening(network, names, keep), torch.no_grad():
        network(torch.zeros(1, *image_shape, device=device))
    staged = [name for name in reversed(stages.names(network)) if name in shapes]
    if _prefix(network):  # what the last block makes of the other tokens may be read by nobody: its input is
        staged = staged[1:]
    others = [name for name, shape in reversed(shapes.items()) if len(shape) == 4]
    layers = (_as_map(name, shapes[name], network, image_shape) for name in [*staged, *others])
    return next((layer for layer in layers if layer is not None), None)


def _as_map(name: str, shape: torch.Size, network: nn.Module, image_shape: Shape) -> Layer | None:
    """Return how an output of this shape is read as a map; None where it is none, or one of one place."""
    _, height, width = image_shape
    if len(shape) == 4:
        channels_last = _width(network, name) == shape[3] != shape[1]
        rows, columns = shape[1:3] if channels_last else shape[2:]
        # Not the weights of an attention, [b heads n n], nor its heads, [b heads n d].
        like_the_picture = rows <= height and columns <= width and (rows == columns or height != width)
        if rows * columns > 1 and like_the_picture:
            return Layer(name=name, size=(rows, columns), channels_last=channels_last)
    if len(shape) == 3 and height == width:
        prefix = _prefix(network)
        side = math.isqrt(max(shape[1] - prefix, 0))
        if side > 1 and side * side == shape[1] - prefix:
            return Layer(name=name, size=(side, side), prefix=prefix)
    return None


def _prefix(network: nn.Module) -> int:
    """Return how many tokens stand before those of places, such as a class token; timm's networks say so."""
    return int(getattr(network, "num_prefix_tokens", 0))


def _width(network: nn.Module, name: str) -> int | None:
    """Return how many channels a stage of timm's network says that it has; some put them last."""
    features = getattr(network, "feature_info", None)
    known = features if isinstance(features, list) else []
    return next((int(info["num_chs"]) for info in known if info["module"] == name), None)


def maps(network: nn.Module, x: Tensor, classes: Tensor, *, layer: Layer) -> Tensor:
    """Return for each picture, and each of some classes, how much each place speaks for the class.

    Args:
        network: gives logits; its mode, its gradients and its hooks are left as they were.
        x: float32 [b c h w], normalised.
        classes: int64 [b k], indices of logits.
        layer: as `find` found it.

    Returns:
        float32 [b k height width] of the layer's size, 0 or more, in units of the logit; 0 throughout where no place
        speaks for the class.
    """
    seen: list[Tensor] = []

    def keep(name: str, x: Tensor, output: Tensor) -> None:
        seen[:] = [output]

    with torch.enable_grad():
        with listening(network, [layer.name], keep):
            # The pictures ask for gradients, so that there are some even where all weights are frozen.
            logits = network(x.detach().clone().requires_grad_())
        found = layer.read(seen[0].detach()).float()
        heat = []
        for of in classes.unbind(1):
            score = logits.gather(1, of[:, None]).sum()  # pictures do not meet in evaluation mode: a gradient for each
            (gradient,) = torch.autograd.grad(score, seen[0], retain_graph=True, allow_unused=True)
            slope = torch.zeros_like(found) if gradient is None else layer.read(gradient).float()
            heat.append((slope.mean((2, 3), keepdim=True) * found).sum(1).relu())
    return torch.stack(heat, 1)
