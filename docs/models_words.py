"""The words of docs/models.md, and what other tables print: what docs/models.py cannot read off the code."""

COUNTED = "one 3x32x32 picture, 100 classes"

HEAD = """
# The zoo

This page is generated: `python -m docs.models` writes it and its picture, with `--parity` after comparing every network
with its oracles. Do not edit it; edit [models.py](models.py) or [models_words.py](models_words.py).

{count} names, {builders} builders. `bakeoff list models 'pattern'` prints them, `bakeoff show MODEL` a network's layers
with their shapes and costs. [How to add a model](how-to-add-a-model.md). How well each network does: not yet measured,
but for what the cards and the [README](../README.md) say.

![Parameters against multiply-adds of every network, on logarithmic axes](models.png)
"""

TABLE = """
## Every name

Counted with 100 classes for one picture of 3x32x32, as `bakeoff.models.cost` does:

- **params**: trainable parameters, millions. **MACs**: multiply-adds of convolutions and matrix products, millions;
  FLOPs are twice that. **activations**: numbers that these put out, millions; a better guide to time and memory.
- **stages**: height of the map after each stage; tokens count as the square that they are.
- **map layer**: the last stage, the layer for class-activation maps (`network.stages[-1]`).
- **smallest**: the smallest of 8, 16 and 32 px that the network takes, and what sizes must be multiples of.
- **builder**: the function of `models.BUILDERS`, with what the name sets. Every other option of it can be set on the
  command line: `model.stem=imagenet`.

Strides follow the picture's size: below 128 px the small form is built, from there on the paper's own.
"""

ZOO_HEAD = "name | params: | MACs: | activations: | stages | map layer | smallest | paper | builder"

TWINS = """
## Twins

Names that other people's tables keep apart, but that compute the same (equal `bakeoff.models.cost.fingerprint`). Two
results of twins are two runs of one network:

{groups}

The adaptive rule of ECA gives kernel 3 for 16, 32 and 64 channels, hence the second group. A fingerprint sees
rates of dropping too: `improved_resnet20_convnext` and its `_no_droppath` differ only while they train.
"""

PARITY = """
## Parity

Each network against other implementations: the same weights and pictures, made by formula, in float64, evaluating and
training. Compared are logits, the gradient of every parameter and the statistics that a training step leaves behind;
given is the largest difference, relative to the largest value of what is compared. The limit is 1e-9; of all {count}
comparisons the largest is {worst}. Measured with torch {versions} on a CPU, one thread (docs/parity.csv);
`tests/reference/test_parity.py` repeats it.

**how**: `run` is code that runs beside ours, of another package, or written a second time with functions over the
plain tensors; `recorded` are answers of the official code, kept in `tests/golden/official/` with a note of how they
were made. **px** is the size of the picture. Dropping is off on both sides. `small_resnet` is the builder, with an
option that no name of the catalogue has.
"""

PARITY_HEAD = "model | against | how | px: | evaluating: | training:"

WEIGHTS = """
## Weights of timm and torchvision

Their state dicts load into these builders. `bakeoff.models.adopt.RULES` has the renamings, a regular expression and
its replacement each; tensors that differ by axes of size one only, such as a 1x1 convolution's and a matrix's, are
reshaped. All tensors are adopted or, if anything does not fit, none. The official form always takes them
(`image_size=224`, or `stem="imagenet"`); the small form where its tensors have the same shapes:
"""

WEIGHTS_HEAD = "builder | source | their names become ours by | into the small form"

WEIGHTS_EXAMPLE = """
```python
import timm

from bakeoff import models
from bakeoff.models.adopt import RULES, adopt

theirs = timm.create_model("convnext_atto", num_classes=1000)  # pretrained=True downloads their weights
ours = models.build("convnext_atto", num_classes=100)
adopt(ours, theirs.state_dict(), rules=RULES["convnext"]["timm"], head=False)  # the last matrix stays ours
```
"""

HISTORY = """
## The names, and the tables that they come from

Most names are those of two course projects, whose tables bakeoff is to repeat. The first is
GH2050/Deep-Learning-2025-Spring. Its README mixes versions of its code: a row's count and its accuracy often belong to
different networks. Where a count follows from a known definition, it is met here; else the paper decides, and the count
is what it comes to. Parameters in millions:
"""

HISTORY_HEAD = "name | there: | here: | why"

SAME = "the same, to the printed digits"
_REBUILT = "the same, to the printed digits; rebuilt without its faults"

# What the README of GH2050/Deep-Learning-2025-Spring prints, in millions.
PRINTED = (
    ("resnet_20", "0.28", SAME),
    ("resnet_32", "0.47", SAME),
    ("resnet_56", "0.86", SAME),
    ("eca_resnet_20", "0.28", SAME),
    ("eca_resnet_32", "0.47", "the same; its ECA has kernel 5"),
    ("ecanet20_adaptive", "0.278", "the same, and so `ecanet20_fixed_k3`, `_k5`, `_k7`, `_k9` and `resnet20_no_eca`"),
    ("improved_resnet20_convnext", "0.175", SAME),
    ("ghost_resnet_20", "0.15", "the same; there, a ReLU and a second norm stand before each sum"),
    (
        "ghost_resnet_32",
        "0.24",
        "none of 24 variants tried gives both this and the row above; its own log counts 249,636",
    ),
    ("ghostnet_100", "4.03", "the same; the count is timm's, its own code gives 7.50"),
    ("cspresnet50", "20.69", "the same; the count is timm's, its own code gives 25.21"),
    ("resnest50d", "25.64", SAME),
    ("convnext_tiny", "27.90", "the same; there, pictures of 32 px meet a stem of stride 4"),
    ("segnext_mscan_tiny", "0.85", "the paper's block at that size; the paper's own MSCAN-T is `mscan_tiny`"),
    ("mlp_mixer_tiny", "3.64", "no version of its code gives this; ours keeps the paper's ratios of width"),
    (
        "mlp_mixer_b16",
        "59.19",
        "timm's at 224 px; at 32 px its patches of 16 px would leave 4 tokens, so ours have 4 px",
    ),
    ("coatnet_0", "20.04", "no version of its code gives this; ours is the paper's"),
    ("coatnet_cifar_opt", "27.01", _REBUILT),
    ("coatnet_cifar_opt_large_stem", "27.01", _REBUILT),
    (
        "hornet_tiny",
        "none",
        "the paper's; there, a ConvNeXt was trained in its place; `hornet_micro` has the 4.63 of its report",
    ),
)

HISTORY_END = """
`coatnet_0_custom_enhanced` is `coatnet_0` with LSK blocks; it has no count there. `eca_resnet20_pos1`, `_pos3`,
`ghost_resnet20_ratio3`, `_ratio4`, `ghostCopy_resnet_20` and the `improved_resnet20_convnext_...` are its ablations:
options of their builders, under its own names. `lsknet_tiny` and `gmlp_tiny` are on the list of its assignment and were
not built there.

The second project trains `resnet10`, `resnet18` and `resnet50`: torchvision's blocks after a 3x3 stem without pooling.
Ours are these networks, with the same counts.
"""
