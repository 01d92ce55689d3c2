"""The pixels of the figure of training images, so that it is drawn without the data and without torch.

Both pictures are what `lib.data.examples` gives, in 8 bits: the rows below each other, images of a row side by side.
"""

from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

FOLDER = Path(__file__).parent / "pixels"
#: Where the images are from, and under which terms, by data set.
SOURCES = {
    "cifar10": "first images of CIFAR-10 (A. Krizhevsky, 2009; no licence stated)",
    "digits": "first images of scikit-learn's digits (E. Alpaydin and C. Kaynak, 1998; CC BY 4.0)",
}
ROWS = ("original", "epoch 1", "epoch 2", "epoch 3", "epoch 4")


def read(dataset: str) -> dict[str, np.ndarray]:
    """Rows of training images by label, as they are and as epochs show them: (images, H, W, 3), values in 0..1.

    Raises ValueError for a data set without a picture.
    """
    if dataset not in SOURCES:
        raise ValueError(f"dataset={dataset!r} is not known; it must be one of {', '.join(SOURCES)}")
    with Image.open(FOLDER / f"{dataset}.png") as picture:
        pixels = np.asarray(picture.convert("RGB")) / 255
    size = pixels.shape[0] // len(ROWS)
    rows = pixels.reshape(len(ROWS), size, -1, size, 3).swapaxes(1, 2)
    return dict(zip(ROWS, rows, strict=True))


def write(dataset: str, rows: dict[str, np.ndarray]) -> Path:
    """Keeps the rows that `read` gives, with their source in the file."""
    pixels = np.concatenate([np.concatenate(list(row), axis=1) for row in rows.values()])
    source = PngInfo()
    source.add_text("Source", SOURCES[dataset])
    path = FOLDER / f"{dataset}.png"
    Image.fromarray(np.rint(255 * pixels).astype(np.uint8)).save(path, optimize=True, pnginfo=source)
    return path
