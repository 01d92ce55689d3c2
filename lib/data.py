"""CIFAR-10 and digits, whole on the device, and their augmentation."""

import shutil
import sys
from dataclasses import dataclass, fields
from functools import cached_property
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from . import paths
from .machinery import files
from .machinery.checkpoints import say

CIFAR10_MEAN, CIFAR10_STD = (125.31, 122.95, 113.87), (62.99, 62.09, 66.70)


@dataclass(frozen=True)
class Dataset:
    """Images and labels on one device, and how an epoch is drawn from them.

    Images are uint8, ``(N, H, W, 3)``, labels int64, ``(N,)``; ``mean`` and ``std`` are per
    channel, on the scale 0..255.
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    mean: Tensor
    std: Tensor
    pad: int  # the random crop is taken from the image reflect-padded by this much
    cutout: int  # side of the square of zeros
    flip: bool = True
    passes: int = 1  # an epoch shows each training image this many times
    label_noise: float = 0.0  # probability that a label is redrawn at random, anew in every epoch

    @property
    def epoch_size(self) -> int:
        """Images in an epoch."""
        return len(self.train_images) * self.passes

    @cached_property
    def windows(self) -> Tensor:
        """Every stretch of W pixels in the padded training images, and in their mirror images behind them.

        uint8, a view: row i is the 3W numbers from pixel i on, pixels counted along rows, columns last.
        """
        height, width = self.train_images.shape[1:3]
        rows, columns = (
            reflect(torch.arange(-self.pad, size + self.pad, device=self.train_images.device), size)
            for size in (height, width)
        )
        padded = self.train_images[:, rows][:, :, columns]
        pixels = torch.cat([padded, padded.flip(2)])
        return pixels.as_strided((pixels.numel() // 3 - width + 1, 3 * width), (3, 1))

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 ``(N, H, W, 3)`` to normalised float32 ``(N, 3, H, W)``, channels last in memory."""
        # by rows of whole images: by rows of three numbers it takes several times as long
        mean, std = (per_channel.repeat(images[0].numel() // 3) for per_channel in (self.mean, self.std))
        return images.flatten(1).float().sub_(mean).div_(std).view(images.shape).permute(0, 3, 1, 2)


def load(name: str, device: torch.device | str = "cpu") -> Dataset:
    """The data set ``cifar10`` or ``digits`` on a device.

    Raises
    ------
    ValueError
        If the name is another.
    RuntimeError
        If CIFAR-10 is not there and cannot be downloaded, or a file of it is altered.
    """
    if name not in LOADERS:
        raise ValueError(f"dataset={name!r} is not known; it must be one of {', '.join(LOADERS)}")
    return LOADERS[name](device)


def _cifar10(device) -> Dataset:
    train, test = (_cifar10_split(is_train) for is_train in (True, False))

    def on(x):
        return torch.as_tensor(x, device=device)

    return Dataset(
        on(train.data),
        on(train.targets),
        on(test.data),
        on(test.targets),
        on(CIFAR10_MEAN),
        on(CIFAR10_STD),
        pad=4,
        cutout=8,
    )


def _cifar10_folder() -> Path:
    return paths.cifar10() / "cifar-10-batches-py"


def _cifar10_split(train: bool):
    root, folder = paths.cifar10(), _cifar10_folder()
    datasets = torchvision("datasets")
    if not folder.is_dir():
        try:
            _download_cifar10(root, folder)
        except (RuntimeError, OSError) as error:
            raise RuntimeError(
                f"CIFAR-10 cannot be read from {folder}: it is not there, and could not be downloaded ({error}); "
                "set CIFAR10_ROOT to a folder that holds cifar-10-batches-py"
            ) from error
    try:
        # torchvision compares every file's md5 with the official one before it opens it
        return datasets.CIFAR10(root, train=train, download=False)
    except (RuntimeError, OSError) as error:
        raise RuntimeError(
            f"CIFAR-10 cannot be read from {folder}: a file there is missing or altered; "
            "remove that folder to download it anew"
        ) from error


def _download_cifar10(root: Path, folder: Path) -> None:
    """Makes the folder, whole or not at all; one process does, and others wait for it."""
    files.check_writable(folder)
    lock = files.claim(folder)
    if lock is None:
        say(f"CIFAR-10 is downloaded to {root} by another process, which is waited for")
        lock = files.claim_in_turn(folder)
    try:
        if folder.is_dir():  # by now
            return
        datasets = torchvision("datasets")
        official = datasets.CIFAR10
        unpacked = root / ".cifar-10-unpacked"
        shutil.rmtree(unpacked, ignore_errors=True)  # of a process that was killed
        datasets.utils.download_and_extract_archive(
            official.url, root, unpacked, filename=official.filename, md5=official.tgz_md5
        )
        (unpacked / official.base_folder).rename(folder)
        unpacked.rmdir()
    finally:
        files.give_free(lock)


def torchvision(name: str):
    """The module ``torchvision.<name>``, also where a torchvision for CUDA sits beside a torch for the CPU.

    There, torchvision's import fails because two of its compiled operators are missing. Data sets and
    models need neither: declare the two, and import again.
    """
    try:
        return import_module(f"torchvision.{name}")
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
    for module in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
        del sys.modules[module]
    for op in ("nms", "qnms"):
        torch.library.define(
            f"torchvision::{op}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        )
    return import_module(f"torchvision.{name}")


def _digits(device) -> Dataset:
    """scikit-learn's 8×8 digits at 16×16, as three equal channels.

    A network learns these 1,797 images to the last one; gradients would vanish, and the noise
    with them. So half the labels are redrawn at random in every epoch, and an epoch shows each
    image four times: 93 steps of 64 images, close to CIFAR-10's 97 steps of 512.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    small = torch.as_tensor(digits.images, dtype=torch.float32)[:, None]
    large = F.interpolate(small * (255 / 16), scale_factor=2, mode="bilinear").clamp_(0, 255)
    images = large.round_().to(torch.uint8).permute(0, 2, 3, 1).expand(-1, -1, -1, 3).contiguous().to(device)
    labels = torch.as_tensor(digits.target, dtype=torch.int64, device=device)
    train = images[:DIGITS_TRAIN].float()
    return Dataset(
        images[:DIGITS_TRAIN],
        labels[:DIGITS_TRAIN],
        images[DIGITS_TRAIN:],
        labels[DIGITS_TRAIN:],
        mean=train.mean(dim=(0, 1, 2)),
        std=train.std(dim=(0, 1, 2)),
        pad=2,
        cutout=4,
        flip=False,  # a mirrored digit is another character
        passes=4,
        label_noise=0.5,
    )


DIGITS_TRAIN = 1500
LOADERS = {"digits": _digits, "cifar10": _cifar10}


@dataclass(frozen=True)
class Choices:
    """The random choices of one epoch, one entry for each image shown, on the data's device."""

    image: Tensor  # which training image
    label: Tensor  # its label, possibly redrawn
    crop: Tensor  # (N, 2): top and left of the window in the padded image
    flip: Tensor  # (N,) bool
    cutout: Tensor  # (N, 2): top and left of the square of zeros

    def __getitem__(self, index) -> "Choices":
        """The choices of some of the images."""
        return Choices(*(getattr(self, f.name)[index] for f in fields(self)))


def draw(dataset: Dataset, generator: torch.Generator) -> Choices:
    """Draws an epoch's order and augmentation; every choice is new for each image and epoch."""
    n, device = dataset.epoch_size, dataset.train_images.device

    def integers(high, *size):
        return torch.randint(high, size, generator=generator, device=device)

    def chance(p):
        return torch.rand(n, generator=generator, device=device) < p

    image = torch.randperm(n, generator=generator, device=device) % len(dataset.train_images)
    label = dataset.train_labels[image]
    height = dataset.train_images.shape[1]
    return Choices(
        image=image,
        label=torch.where(chance(dataset.label_noise), integers(10, n), label),
        crop=integers(2 * dataset.pad + 1, n, 2),
        flip=chance(0.5 if dataset.flip else 0.0),
        cutout=integers(height - dataset.cutout + 1, n, 2),
    )


def augment(dataset: Dataset, choices: Choices) -> Tensor:
    """The images that are chosen: cropped, flipped, normalised, cut out.

    float32, ``(N, 3, H, W)``, channels last in memory, in the order in which they are shown.
    """
    height, width = dataset.train_images.shape[1:3]
    rows, cut = (torch.arange(n, device=choices.image.device) for n in (height, dataset.cutout))
    across = width + 2 * dataset.pad
    # the mirror image of a window is a window of the mirror image, as far from the other border
    image = choices.image + len(dataset.train_images) * choices.flip
    left = torch.where(choices.flip, 2 * dataset.pad - choices.crop[:, 1], choices.crop[:, 1])
    top = image * (height + 2 * dataset.pad) + choices.crop[:, 0]
    stretches = (top * across + left)[:, None] + across * rows
    images = dataset.windows.index_select(0, stretches.view(-1)).view(-1, height, width, 3)
    images = dataset.normalise(images)

    top = height * torch.arange(len(images), device=rows.device) + choices.cutout[:, 0]
    pixels = (width * (top[:, None] + cut))[:, :, None] + (choices.cutout[:, 1:] + cut)[:, None, :]
    images.permute(0, 2, 3, 1).view(-1, 3).index_fill_(0, pixels.view(-1), 0.0)
    return images


def reflect(position: Tensor, size: int) -> Tensor:
    """Index into 0..size-1 of a position outside it, mirrored at the border without repeating it."""
    return (size - 1) - ((size - 1) - position.abs()).abs()


def examples(name: str, images: int = 10, epochs: int = 4, seed: int = 0) -> dict[str, np.ndarray]:
    """The first images of a data set, as they are and as epochs show them, for a picture.

    Rows by label, each ``(images, H, W, 3)`` with values in 0..1.
    """
    dataset = load(name)
    rows = {"original": dataset.train_images[:images].numpy() / 255}
    generator = torch.Generator().manual_seed(seed)
    for epoch in range(1, epochs + 1):
        choices = draw(dataset, generator)
        shown = [int((choices.image == i).nonzero()[0]) for i in range(images)]
        pixels = augment(dataset, choices[shown]).permute(0, 2, 3, 1) * dataset.std + dataset.mean
        rows[f"epoch {epoch}"] = (pixels / 255).clamp(0, 1).numpy()
    return rows


def at_hand(name: str) -> bool:
    """Whether a data set can be loaded without a download."""
    return name != "cifar10" or _cifar10_folder().is_dir()
