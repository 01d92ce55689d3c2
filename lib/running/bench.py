"""How fast the trainer is, beside the same without probes, a plain loop, and its convolutions alone.

All are measured in one process, one after the other in every round, so that whatever else the
machine does meets all alike. What counts are the ratios.
"""

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from tqdm import tqdm

from .. import data, models, training
from ..config import Config
from ..machinery import machine
from ..probes import WeightProbe

VARIANTS = {
    "trainer": "the trainer with its probes",
    "no_probes": "the trainer without probes",
    "plain": "a plain loop: DataLoader, torchvision transforms, torch.optim.SGD",
    "convolutions": "the convolutions alone, forward and backward",
    "arithmetic": "as many operations, in products of large matrices",
}
#: What the trainer's speed is divided by.
RATIOS = ("no_probes", "plain", "convolutions")
IMAGE_SIZE = 32
#: Side of the matrices whose product shows what the processor's arithmetic can do.
MATRIX = 2048


@dataclass(frozen=True)
class Bench:
    """Images per second in every round, by variant, and on what machine; ``memory_mib`` at the process's peak so far."""

    width: int
    batch_size: int
    images_per_second: dict[str, list[float]]
    memory_mib: float
    machine: dict[str, str | int]

    def ratio(self, other: str) -> tuple[float, float, float]:
        """Speed of the trainer over that of another variant: median, least and greatest over rounds."""
        quotients = np.divide(self.images_per_second["trainer"], self.images_per_second[other])
        return float(np.median(quotients)), float(quotients.min()), float(quotients.max())

    def text(self) -> str:
        """What `python -m lib bench` prints."""
        lines = [f"width {self.width}, batch size {self.batch_size}, {self.machine['device']}"]
        for name, meaning in VARIANTS.items():
            lines.append(f"  {np.median(self.images_per_second[name]):8,.0f} images/s  {meaning}")
        for other in RATIOS:
            median, low, high = self.ratio(other)
            lines.append(f"  trainer / {other}: {median:.2f} ({low:.2f} to {high:.2f})")
        return "\n".join([*lines, f"  peak memory of this process so far: {self.memory_mib:,.0f} MiB"])


def run(
    width: int = 8,
    device: str | None = None,
    rounds: int = 5,
    steps: int | None = None,
    batch_size: int = 512,
) -> Bench:
    """Measures all variants, ``steps`` batches a round; by default as many as take a few seconds.

    On the GPU when there is one, unless ``device`` says otherwise. The images are random: no data
    set is needed, and speed does not depend on what they show. Raises ValueError on a width, a number of
    rounds or steps below 1, and on a device that is not there.
    """
    given = {
        "width": width,
        "rounds": rounds,
        "batch_size": batch_size,
        "steps": 1 if steps is None else steps,
    }
    for name, value in given.items():
        if value < 1:
            raise ValueError(f"{name}={value!r} is not allowed; it must be a whole number from 1 up")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device='cuda' is not there; it must be cpu, or left out")
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    images = 100 * 512 if device.type == "cuda" else 160 * 512 // width
    steps = steps or max(2, images // batch_size)
    config = Config(width=width, batch_size=batch_size)
    if device.type == "cpu":
        machine.keep_freed_memory()
    images = _random_images(steps * config.batch_size, device)
    variants = {
        "trainer": _trainer(config, images, probes=True),
        "no_probes": _trainer(config, images, probes=False),
        "plain": _plain_loop(config, images),
        "convolutions": _convolutions(config, steps, device),
        "arithmetic": _arithmetic(config, steps, device),
    }
    speeds = {name: [] for name in variants}
    for epoch in tqdm(range(rounds + 1), desc="bench", unit="round", disable=None, leave=False):
        for name, work in variants.items():
            seconds = _timed(work, device)
            if epoch:  # the first round warms up
                speeds[name].append(round(steps * config.batch_size / seconds, 1))
    return Bench(width, config.batch_size, speeds, _memory_mib(device), machine.describe(device))


def operations(config: Config) -> pd.DataFrame:
    """Floating-point operations of a training step for one image, by layer, in millions.

    Columns: ``layer``, ``forward``, and ``training``: forward, the gradient of the weights and that of
    the input, which the first layer need not pass on. A multiplication and an addition are two.
    """
    rows = []
    for name, weight, _, y in _layers(models.build(config.architecture, config.width), 1, "cpu"):
        forward = 2e-6 * weight.numel() * y[0, 0].numel()
        rows.append((name, forward, forward * (2 if not rows else 3)))
    return pd.DataFrame(rows, columns=["layer", "forward", "training"])


def _layers(model: nn.Module, batch_size: int, device):
    """Name, weight, input and output of each probed layer of a model, for a batch of zeros."""
    seen = {}
    modules = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    hooks = [m.register_forward_hook(lambda m, x, y: seen.update({m: (x[0], y)})) for m in modules]
    with torch.no_grad():
        model(torch.zeros(batch_size, 3, IMAGE_SIZE, IMAGE_SIZE, device=device))
    for hook in hooks:
        hook.remove()
    for name, weight in models.probed_weights(model).items():
        module = next(m for m in modules if m.weight is weight)
        yield name, weight, *seen[module]


def _random_images(n: int, device) -> data.Dataset:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (n, IMAGE_SIZE, IMAGE_SIZE, 3), generator=generator, dtype=torch.uint8)
    labels = torch.randint(10, (n,), generator=generator)
    normal = (torch.tensor(data.CIFAR10_MEAN), torch.tensor(data.CIFAR10_STD))
    return data.Dataset(
        *(t.to(device) for t in (images, labels, images[:1], labels[:1], *normal)), pad=4, cutout=8
    )


class _NoProbe:
    def before_step(self):
        pass

    def after_step(self):
        pass


def _trainer(config: Config, dataset: data.Dataset, probes: bool) -> Callable[[], None]:
    device = dataset.train_images.device
    steps = dataset.epoch_size // config.batch_size
    model = training.build(config, device)
    generator = torch.Generator(device).manual_seed(0)
    probe = WeightProbe(list(models.probed_weights(model).values()), steps) if probes else _NoProbe()
    steppers = training.steppers(model, config, np.full(steps, 0.01))
    bar = tqdm(disable=True)

    def epoch():
        choices = data.draw(dataset, generator)
        batches = training.batches(dataset, choices, config.batch_size)
        training.train_epoch(model, steppers, probe, batches, bar)
        if probes:
            probe.fetch()

    return epoch


class _Pictures(TorchDataset):
    def __init__(self, dataset: data.Dataset, transform):
        self.images, self.labels = dataset.train_images.cpu().numpy(), dataset.train_labels.cpu()
        self.transform = transform

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return self.transform(self.images[i]), self.labels[i]


def _plain_loop(config: Config, dataset: data.Dataset) -> Callable[[], None]:
    data._torchvision_datasets()  # makes torchvision's import work
    from torchvision import transforms

    transform = transforms.Compose(
        [
            transforms.ToPILImage(),
            transforms.RandomCrop(IMAGE_SIZE, padding=4, padding_mode="reflect"),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize([m / 255 for m in data.CIFAR10_MEAN], [s / 255 for s in data.CIFAR10_STD]),
        ]
    )
    device = dataset.train_images.device
    loader = DataLoader(_Pictures(dataset, transform), config.batch_size, shuffle=True, drop_last=True)
    model = models.build(config.architecture, config.width).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)

    def epoch():
        model.train()
        for images, labels in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(images.to(device)), labels.to(device)).backward()
            optimizer.step()

    return epoch


def _convolutions(config: Config, steps: int, device) -> Callable[[], None]:
    model = training.build(config, device)
    cases = []
    for name, weight, x, y in _layers(model, config.batch_size, device):
        if weight.dim() == 4:
            inputs = torch.randn_like(x).contiguous(memory_format=torch.channels_last)
            # the first has no gradient to pass on
            cases.append((inputs.requires_grad_(name != "prep"), weight, torch.randn_like(y)))

    def epoch():
        for _ in range(steps):
            for x, weight, grad in cases:
                with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
                    y = F.conv2d(x, weight, padding=1)
                wanted = [t for t in (x, weight) if t.requires_grad]
                torch.autograd.grad(y, wanted, grad.to(y.dtype))

    return epoch


def _arithmetic(config: Config, steps: int, device) -> Callable[[], None]:
    wanted = 1e6 * operations(config)["training"].sum() * config.batch_size * steps
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    left, right = torch.randn(2, MATRIX, MATRIX, device=device, dtype=dtype)
    # a round of whole products would be off for small networks: the last one has fewer rows
    products, rest = divmod(wanted / (2 * MATRIX**2), MATRIX)

    def epoch():
        for _ in range(int(products)):
            left @ right
        left[: round(rest)] @ right

    return epoch


def _timed(work: Callable[[], None], device) -> float:
    def now():
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    start = now()
    work()
    return now() - start


def _memory_mib(device) -> float:
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    import resource  # not on Windows

    unit = 1 if platform.system() == "Darwin" else 2**10  # bytes there, KiB on Linux
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20, 1)
