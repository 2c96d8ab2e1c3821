"""Small files in the forms CIFAR comes in, for the tests of those who read them."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

NAMES = tuple(f"class {index}" for index in range(10))
PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def pictures(num: int = 20, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (num, 32, 32, 3), dtype=np.uint8)


def encode(pixels: np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def table(encoded: list[bytes | None], labels: list[int | None], *, column: str = "label") -> pa.Table:
    """Build a table as the hub has it."""
    features = {"img": {"_type": "Image"}, column: {"names": NAMES, "_type": "ClassLabel"}}
    return pa.table(
        {
            "img": pa.array([{"bytes": content, "path": "../../etc/passwd"} for content in encoded], PICTURE),
            column: pa.array(labels, pa.int64()),
        }
    ).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def write(path: Path, content: pa.Table) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(content, path)
    return path


def write_cifar10(folder: Path, *, num: int = 20) -> np.ndarray:
    """Write both parts in two pieces; return the pixels of the training part."""
    pixels = pictures(num)
    encoded, labels, half = [encode(picture) for picture in pixels], [row % 10 for row in range(num)], num // 2
    write(folder / "train-00000-of-00002.parquet", table(encoded[:half], labels[:half]))
    write(folder / "train-00001-of-00002.parquet", table(encoded[half:], labels[half:]))
    write(folder / "test-00000-of-00001.parquet", table(encoded[:5], labels[:5]))
    return pixels
