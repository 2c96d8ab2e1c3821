"""Handwritten digits, 8x8 and grey: 1,797 pictures that come with scikit-learn, for a first run offline.

Kept as they are, one channel of eight pixels: enlarging them would cost time and add nothing.

Source: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository,
1998. https://doi.org/10.24432/C50P49 (its test set, which is what scikit-learn distributes).
"""

import numpy as np

from bakeoff.data.images import ImageSet, Part, fingerprint, hold_out

TEST_FRACTION = 0.2
SPLIT_SEED = 0  # part of the definition of this source: another one would make another benchmark
MEAN, STD = (0.3058,), (0.3763,)  # of all pixels of the 1,438 training pictures


def load(part: Part) -> ImageSet:
    """Return uint8 [n 1 8 8], 1,438 pictures to train on or 359 to test on, each digit in proportion.

    scikit-learn has one file without a split, so this one is ours: `hold_out` with the constants above.
    Values 0 to 16 are spread over 0 to 255. Too small to be worth a place in the cache.
    """
    from sklearn.datasets import load_digits  # a second of imports

    published = load_digits()
    labels = published.target.astype(np.int64)
    train, test = hold_out(labels, fraction=TEST_FRACTION, seed=SPLIT_SEED)
    index = train if part == "train" else test
    pixels = np.rint(published.images[index] * 255 / 16).astype(np.uint8)[..., np.newaxis]
    classes = tuple("0123456789")
    return ImageSet(
        images=pixels.transpose(0, 3, 1, 2),
        labels=labels[index],
        classes=classes,
        mean=MEAN,
        std=STD,
        fingerprint=fingerprint(pixels, labels[index], classes),
    )
