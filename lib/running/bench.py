"""How fast the trainer is, beside the same without probes, a plain loop, and its convolutions alone.

All are measured in one process, one after the other in every round, so that whatever else the
machine does meets all alike. What counts are the ratios.
"""

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from tqdm import tqdm

from .. import data, experiments, models, paths, steppers, training
from ..config import CLASSIFIER, Config, layers_of, operations
from ..machinery import machine
from ..machinery.speeds import Bench, Sweep
from ..probes import WeightProbe

IMAGE_SIZE = 32
#: Width and batch size of what the page on cost shows, each in fp32 and bf16.
PLAN = ((8, 512), (16, 512), (32, 512), (64, 512), (8, 128), (8, 2048))
#: How often the run by itself is timed.
REPEATS = 3
#: Side of the matrices whose product shows what the processor's arithmetic can do.
MATRIX = 2048


def run(
    width: int = 8,
    device: str | None = None,
    rounds: int = 5,
    steps: int | None = None,
    batch_size: int = 512,
    precision: str = "fp32",
) -> Bench:
    """Measures all variants, ``steps`` batches a round; by default as many as take a few seconds.

    All in ``precision``, but for the plain loop, which is that of fp32.

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
    on = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    images = 100 * 512 if on.type == "cuda" else 160 * 512 // width
    steps = steps or max(2, images // batch_size)
    config = Config(width=width, batch_size=batch_size, precision=precision)
    if on.type == "cpu":
        machine.keep_freed_memory()
    images = _random_images(steps * config.batch_size, on)
    variants = {
        "trainer": _trainer(config, images, probes=True),
        "no_probes": _trainer(config, images, probes=False),
        "plain": _plain_loop(config, images),
        "convolutions": _convolutions(config, steps, on),
        "arithmetic": _arithmetic(config, steps, on),
    }
    speeds = {name: [] for name in variants}
    with machine.whole_float32():
        for epoch in tqdm(range(rounds + 1), desc="bench", unit="round", disable=None, leave=False):
            for name, work in variants.items():
                seconds = _timed(work, on)
                if epoch:  # the first round warms up
                    speeds[name].append(round(steps * config.batch_size / seconds, 1))
    memory = _memory_mib(on)
    here = machine.of_training(on) | {"bf16_units": machine.has_bf16_units(on)}
    return Bench(width, batch_size, speeds, memory, here, precision)


def sweep(jobs: int) -> Sweep:
    """Trains a run of demo scale by itself, some times over, then an experiment of such runs.

    Raises RuntimeError when that fails.
    """
    planned = experiments.planned("demo", ["tuning"])
    alone = [_seconds("train", "--epochs", planned[0].config.epochs) for _ in range(REPEATS)]
    together = _seconds("run", "tuning", "--scale", "demo", "--jobs", jobs)
    here = machine.of_training(torch.device("cpu")) | {"threads": 1}
    return Sweep(len(planned), jobs, alone, together, here)


def _seconds(*arguments: object) -> float:
    """Seconds that a command of `lib` takes on one thread, with a folder of its own for records."""
    command = [sys.executable, "-m", paths.PACKAGE.name, *map(str, arguments)]
    with tempfile.TemporaryDirectory() as folder:
        places = {"RECORDS_ROOT": folder, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        start = time.perf_counter()
        done = subprocess.run(
            command, cwd=paths.ROOT, env=os.environ | places, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"the sweep failed: {done.stderr.strip()}")
        return round(time.perf_counter() - start, 2)


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

    def fetch(self):
        pass


def _trainer(config: Config, dataset: data.Dataset, probes: bool) -> Callable[[], None]:
    device = dataset.train_images.device
    steps = dataset.epoch_size // config.batch_size
    model = training.build(config, device)
    generator = torch.Generator(device).manual_seed(0)
    probe = WeightProbe(list(models.probed_weights(model).values()), steps) if probes else _NoProbe()
    moved_by = steppers.of(model, config, np.full(steps, 0.01))
    bar = tqdm(disable=True)

    def epoch():
        choices = data.draw(dataset, generator)
        batches = training.batches(dataset, choices, config.batch_size)
        training.train_epoch(model, moved_by, probe, batches, bar, config.precision)
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
    transforms = data.torchvision("transforms")

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
    cases = []
    for name, layer in layers_of(config.architecture, config.width).items():
        if name == CLASSIFIER:
            continue
        convolution = models.Convolution(layer.channels_in, layer.channels_out)
        convolution.to(device, memory_format=torch.channels_last)  # pyrefly: ignore[no-matching-overload]
        size = IMAGE_SIZE // layer.shrunk
        x, grad = (
            torch.randn(
                config.batch_size, channels, size, size, device=device, dtype=_dtype(config)
            ).contiguous(memory_format=torch.channels_last)
            for channels in (layer.channels_in, layer.channels_out)
        )
        # the first has no gradient to pass on
        cases.append((convolution, x.requires_grad_(name != "prep"), grad))

    def epoch():
        for _ in range(steps):
            for convolution, x, grad in cases:
                with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
                    y = convolution(x)
                torch.autograd.grad(y, [t for t in (x, convolution.weight) if t.requires_grad], grad)

    return epoch


def _dtype(config: Config) -> torch.dtype:
    return torch.bfloat16 if config.precision == "bf16" else torch.float32


def _arithmetic(config: Config, steps: int, device) -> Callable[[], None]:
    for_an_image = sum(training for _, training in operations(config.architecture, config.width).values())
    wanted = 1e6 * for_an_image * config.batch_size * steps
    left, right = torch.randn(2, MATRIX, MATRIX, device=device, dtype=_dtype(config))
    # a round of whole products would be off for small networks: the last one has fewer rows
    products, rest = divmod(wanted / (2 * MATRIX**2), MATRIX)

    def epoch():
        for _ in range(int(products)):
            _ = left @ right
        _ = left[: round(rest)] @ right

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
