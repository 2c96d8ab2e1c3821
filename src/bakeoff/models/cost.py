"""What a network costs, and whether two are the same one: both read off one pass without numbers.

The pass runs on torch's meta device, where tensors have shapes but no content: it costs milliseconds,
whatever the network, and changes neither the network nor any random state.
"""

import copy
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import FlopCounterMode

# Products of matrices, as they arrive at the dispatcher: what MACs and activations are counted on.
PRODUCTS = frozenset({"convolution", "mm", "addmm", "bmm", "baddbmm"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What one picture costs.

    Attributes:
        params: trainable parameters.
        macs: multiply-adds of convolutions and matrix products (torch's flop counter / 2).
        activations: elements that these put out (Radosavovic et al. 2020, section 3, extended to matrix
            products); a better guide to time and memory than MACs.
    """

    params: int
    macs: int
    activations: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """One line of a network's table.

    Attributes:
        name: dotted path in the network; "" is the network itself.
        kind: the module's class, with its settings where it has them.
        shape: of its output, for one picture, without the batch.
        params: trainable parameters in it that no earlier line has.
        macs: multiply-adds in it that no other line has.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    params: int
    macs: int


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Write down every operator, its operands by number of appearance, and the shapes of its results."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.lines: list[str] = []
        self.activations = 0
        self._numbers: dict[int, int] = {}
        self._alive: list[Tensor] = []  # keeps Python from giving an id away twice

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401 - torch keeps the type of its operators to itself
        types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        kwargs = kwargs or {}
        operands = tree_map(self._operand, (args, kwargs))
        out: object = func(*args, **kwargs)
        # An operator and its in-place twin (relu, relu_) are one computation: the result gets a new number.
        name = func._schema.name.removeprefix("aten::").removesuffix("_")
        self.lines.append(f"{name} {operands} -> {tree_map(self._result, out)}")
        if name in PRODUCTS and isinstance(out, Tensor):
            self.activations += out.numel()
        return out

    def _operand(self, value: object) -> str:
        if isinstance(value, torch.device | torch.Generator):
            return type(value).__name__  # which one it is does not belong to the network
        if not isinstance(value, Tensor):
            return repr(value)
        if id(value) not in self._numbers:  # first seen: an input, a parameter or a buffer
            kind = "trained" if value.requires_grad else "given"
            self.lines.append(f"{kind} {self._result(value)}")
        return f"%{self._numbers[id(value)]}"

    def _result(self, value: object) -> str:
        if not isinstance(value, Tensor):
            return repr(value)
        self._alive.append(value)
        self._numbers[id(value)] = len(self._alive)
        return f"%{len(self._alive)} {value.dtype}{list(value.shape)}"


def cost(model: nn.Module, image_shape: tuple[int, int, int]) -> Cost:
    """Count parameters, multiply-adds and activations for one picture [c h w], in evaluation mode."""
    recorder, counter = _Recorder(), FlopCounterMode(display=False)
    with counter:
        _trace(model, (1, *image_shape), recorder, training=False)
    params = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return Cost(params=params, macs=counter.get_total_flops() // 2, activations=recorder.activations)


def layers(model: nn.Module, image_shape: tuple[int, int, int], *, depth: int = 2) -> list[Layer]:
    """List a network's layers in the order of their making, with shapes and costs for one picture [c h w].

    A line is a module `depth` names deep, or one above that has no modules inside. What a module above does or
    owns itself (a position table, a product) has a line of its own, after those. The columns add up to `cost`.
    """
    shadow = on_meta(model).eval()
    shapes: dict[nn.Module, tuple[int, ...]] = {}

    def note(module: nn.Module, _: object, out: object) -> None:
        if isinstance(out, Tensor):
            shapes.setdefault(module, tuple(out.shape[1:]))

    for module in shadow.modules():
        module.register_forward_hook(note)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        shadow(torch.empty((1, *image_shape), device="meta"))
    counted = counter.get_flop_counts()
    seen: set[nn.Parameter] = set()

    def macs(path: str) -> int:
        full = ".".join(filter(None, (type(shadow).__name__, path)))
        return int(sum(counted.get(full, {}).values())) // 2

    def lines(path: str, module: nn.Module, level: int) -> Iterator[Layer]:
        inner = [(f"{path}.{name}".lstrip("."), child) for name, child in module.named_children()]
        inner = inner if level < depth else []
        for child_path, child in inner:
            yield from lines(child_path, child, level + 1)
        own = [p for p in module.parameters(recurse=not inner) if p.requires_grad and p not in seen]
        seen.update(own)
        layer = Layer(
            name=path,
            kind=_kind(module),
            shape=shapes.get(module, ()),
            params=sum(p.numel() for p in own),
            macs=macs(path) - sum(macs(child_path) for child_path, _ in inner),
        )
        if layer.params or layer.macs or not (inner or isinstance(module, nn.Identity)):
            yield layer

    return list(lines("", shadow, 0))


def _kind(module: nn.Module) -> str:
    """Name a module's class, and of a convolution what its class does not tell."""
    kind = type(module).__name__
    if not isinstance(module, nn.Conv2d):
        return kind
    height, width = module.kernel_size
    stride = f" /{module.stride[0]}" if module.stride[0] > 1 else ""
    depthwise = " depthwise" if kind == "Conv2d" and module.groups == module.in_channels > 1 else ""
    return f"{kind} {height}x{width}{stride}{depthwise}"


def fingerprint(model: nn.Module, image_shape: tuple[int, int, int]) -> str:
    """Return a hash (64 hex digits) of what the network computes for pictures [c h w], whatever its name.

    It covers the operators with their operands and settings, evaluating and training (drop-out shows only
    there), the shapes of the parameters in order of use and whether they are trained. It does not cover
    values: initial weights, and constants kept in buffers. Two networks with one fingerprint compute the
    same; with two they may still be equal, written differently. Compare within one torch version only.
    """
    recorders = _Recorder(), _Recorder()
    for recorder, training in zip(recorders, (False, True), strict=True):
        # Two pictures: batch normalisation cannot train on one whose map is a single pixel.
        _trace(model, (2, *image_shape), recorder, training=training)
    text = "\n".join(chain(recorders[0].lines, ["training"], recorders[1].lines))
    return hashlib.sha256(text.encode()).hexdigest()


def _trace(model: nn.Module, shape: tuple[int, ...], recorder: _Recorder, *, training: bool) -> None:
    shadow = on_meta(model).train(training)
    with torch.no_grad(), torch.random.fork_rng(devices=[]), recorder:
        shadow(torch.empty(shape, device="meta"))


def on_meta(model: nn.Module) -> nn.Module:
    """Copy the modules to the meta device, without their numbers: deepcopy finds each tensor's stand-in in its memo."""
    memo: dict[int, Any] = {id(b): torch.empty(b.shape, dtype=b.dtype, device="meta") for b in model.buffers()}
    for p in model.parameters():
        stand_in = torch.empty(p.shape, dtype=p.dtype, device="meta")
        memo[id(p)] = nn.Parameter(stand_in, requires_grad=p.requires_grad)
    return copy.deepcopy(model, memo)
