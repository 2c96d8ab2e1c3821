"""A network with its normalisation inside, from raw pixels to logits, and torch's own format for it.

The one place that knows what goes in: `images`, uint8 [batch height width channels], as a picture is decoded.
"""

import io
import re
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from bakeoff.errors import BakeoffError
from bakeoff.results.files import write_atomically
from bakeoff.serving.agreement import Images, Logits, Runner

BATCH = "batch"  # what the dimension is called
INPUT, OUTPUT = "images", "logits"
_NAMED = re.compile(r"(?<=op=')[\w.]+|\baten\.\w+(?:\.\w+)?|\b[a-z_]\w*::\w+")  # as torch names operations
_PLACES = ("stack_trace", "stacktrace")  # where in the code a node came from, by the paths of this machine


class FromPixels(nn.Module):
    """A network that takes pictures as they are decoded.

    Args:
        network: maps x float32 [b c h w], normalised, to logits [b classes].
        mean: of each channel, in units of [0, 1].
        std: of each channel, in units of [0, 1].
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, *, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.network = network
        # The numbers of `data.pixels.Normalise`: product and sum, each rounded once.
        self.register_buffer("scale", torch.tensor([1 / (255 * s) for s in std]))
        self.register_buffer("shift", torch.tensor([-m / s for m, s in zip(mean, std, strict=True)]))

    def forward(self, images: Tensor) -> Tensor:
        """Map images uint8 [b h w c] to logits float32 [b classes]."""
        x = images.to(torch.float32) * self.scale + self.shift
        logits: Tensor = self.network(x.permute(0, 3, 1, 2))
        return logits


def trace(
    network: nn.Module, *, mean: tuple[float, ...], std: tuple[float, ...], image_shape: tuple[int, int, int]
) -> ExportedProgram:
    """Record what a network computes, for batches of any size. The network itself is left as it is.

    Args:
        network: in evaluation mode, on the CPU.
        mean: of each channel, in units of [0, 1].
        std: of each channel, in units of [0, 1].
        image_shape: channels, height and width of its pictures.

    Raises:
        BakeoffError: it does what cannot be recorded.
    """
    channels, height, width = image_shape
    copy = deepcopy(network).float().to(memory_format=torch.contiguous_format).requires_grad_(False)
    example = torch.zeros(2, height, width, channels, dtype=torch.uint8)  # of 1 would be taken for a constant
    try:
        with torch.no_grad():
            program = torch.export.export(
                FromPixels(copy, mean=mean, std=std).eval(), (example,), dynamic_shapes=({0: Dim(BATCH)},)
            )
    except Exception as error:  # whatever torch raises of somebody's network
        raise cannot("program", error) from error
    graphs = [module.graph for module in program.graph_module.modules() if isinstance(module, torch.fx.GraphModule)]
    for node in (node for graph in graphs for node in graph.nodes):
        for key in _PLACES:
            node.meta.pop(key, None)
    return program


def write(program: ExportedProgram, path: Path) -> None:
    """Write the program as a .pt2 archive."""
    archive = io.BytesIO()
    try:
        torch.export.save(program, archive)
    except Exception as error:
        raise cannot("program", error) from error
    write_atomically(path, archive.getvalue())


def runner(path: Path) -> Runner:
    """Read a .pt2 archive that was written here, and return what runs it. Of a stranger's, this could run code."""
    module = torch.export.load(path).module()

    def run(images: Images) -> Logits:
        with torch.inference_mode():
            logits: Logits = module(torch.from_numpy(np.ascontiguousarray(images))).numpy()
        return logits

    return run


def cannot(format_name: str, error: BaseException) -> BakeoffError:
    """Return the message for a network that a format has no words for, naming the operation where it is known."""
    causes = list(_causes(error))
    operation = next((match[0] for cause in reversed(causes) if (match := _NAMED.search(str(cause)))), None)
    deepest = causes[-1]
    said = " ".join(str(deepest).split())[:300]
    what = f"the operation {operation}" if operation else "an operation"
    return BakeoffError(
        f"export as {format_name}",
        found=f"{what} that cannot be exported ({type(deepest).__name__}: {said})",
        expected="a network of operations that this format has",
        hint="Another --format may have them; safetensors has every network.",
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it came from, the deepest last."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
