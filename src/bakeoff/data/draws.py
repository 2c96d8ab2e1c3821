"""Random numbers keyed by what they decide: (seed, purpose, epoch, image).

There is no stream and no state. A number is a hash of its key, so an image meets the same fate whatever batch
it falls into, on however many ranks, and after a resume there is nothing to restore.

Source: Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014 (the mixing function,
"splitmix64"); Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", 2011 (hashing a counter).
"""

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import torch
from torch import Tensor

GOLDEN_GAMMA = 0x9E3779B97F4A7C15  # 2**64 / golden ratio, odd: successive counters land far apart
_MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)  # Stafford's "Mix13", as in splitmix64


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """Random numbers of some images in one epoch, one row an image.

    Args:
        seed: of the run.
        epoch: counted from 0; None gives numbers that stay the same in every epoch.
        index: int64 [n], the images' places in their set, in any order.
    """

    seed: int
    epoch: int | None
    index: Tensor

    def uniform(self, purpose: str, num: int = 1) -> Tensor:
        """Return float32 [n num] in [0, 1), multiples of 2**-24, independent between purposes."""
        return (self._bits(purpose, num) >> 8).to(torch.float32).mul_(2.0**-24)

    def integers(self, purpose: str, high: int, num: int = 1) -> Tensor:
        """Return int64 [n num] in [0, high), exact on any machine; `high` is at most 2**31."""
        return (self._bits(purpose, num) * high) >> 32

    def _bits(self, purpose: str, num: int) -> Tensor:
        """Return 32 random bits each, int64 [n num]; column i is the same whatever `num` is."""
        keys = [_key(self.seed, purpose, self.epoch, column) for column in range(num)]
        return _hash(self.index[:, None], torch.tensor(keys)) >> 32 & 0xFFFFFFFF


def permutation(num: int, *, seed: int, epoch: int) -> Tensor:
    """Return the order of `num` images in an epoch, int64 [num]: sorted by a random number each.

    The hash is a bijection for a given key, so no two images tie. Not numpy's own shuffle, which may change
    between versions of numpy.
    """
    numbers = _hash(torch.arange(num), torch.tensor(_key(seed, "order", epoch)))
    return torch.from_numpy(np.argsort(numbers.numpy()))


def balanced(labels: np.ndarray, *, seed: int, epoch: int) -> tuple[Tensor, Tensor]:
    """Return an order in which each class is shown as often as any other, as many pictures as there are.

    The pictures of a small class are gone through several times, in one order; of a large one, a part is shown, another
    in each epoch.

    Args:
        labels: int64 [n].
        seed: of the run.
        epoch: counted from 0.

    Returns:
        int64 [n], places in the set; and int64 [n], which showing of its picture each is, from 0.
    """
    num = len(labels)
    order = permutation(num, seed=seed, epoch=epoch).numpy()
    classes = np.unique(labels)
    shares = np.full(len(classes), num // len(classes))
    lucky = permutation(len(classes), seed=seed, epoch=epoch).numpy()[: num % len(classes)]
    shares[lucky] += 1
    places, rounds = [], []
    for label, share in zip(classes, shares, strict=True):
        members = order[labels[order] == label]
        showing = np.arange(share)
        places.append(members[showing % len(members)])
        rounds.append(showing // len(members))
    mixed = permutation(num, seed=seed, epoch=-1 - epoch).numpy()  # another one than decided what is shown
    return torch.from_numpy(np.concatenate(places)[mixed]), torch.from_numpy(np.concatenate(rounds)[mixed])


def generator(seed: int, *key: str | int) -> np.random.Generator:
    """Return a generator of its own for what is drawn once a batch, on the host."""
    return np.random.Generator(np.random.Philox(key=_key(seed, *key) % 2**64))


def _key(*parts: str | int | None) -> int:
    """Hash anything to a signed 64-bit number: stable, unlike Python's `hash`."""
    return int.from_bytes(blake2b(repr(parts).encode(), digest_size=8).digest(), "little", signed=True)


def _hash(counter: Tensor, key: Tensor) -> Tensor:
    """Mix int64 counters with keys of the same shape, or one that broadcasts: int64, all 64 bits random."""
    z = key + counter * _signed(GOLDEN_GAMMA)
    z = (z ^ _shift(z, 30)) * _signed(_MULTIPLIERS[0])
    z = (z ^ _shift(z, 27)) * _signed(_MULTIPLIERS[1])
    return z ^ _shift(z, 31)


def _shift(z: Tensor, bits: int) -> Tensor:
    # torch shifts int64 arithmetically: the copies of the sign bit that come in from the left are masked away
    return z >> bits & (1 << 64 - bits) - 1


def _signed(word: int) -> int:
    """Return the int64 with the same 64 bits; products then wrap around as those of uint64 do."""
    return word - 2**64 if word >= 2**63 else word
