"""The one training loop."""

import ctypes
import platform
import subprocess
import sys
import time
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F
from tqdm import tqdm

from lib import data, models, optimizers, paths, theory
from lib.config import Config
from lib.probes import QUANTITIES, WeightProbe
from lib.schedules import per_step


class DivergedError(RuntimeError):
    """The loss of a run became NaN or infinite."""


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run: its settings, what was measured, and how it came about.

    ``steps`` has a row for each step and layer, in that order: ``step`` from 0, ``epoch`` (the
    step's middle, in epochs), ``layer`` (categorical, from input to output), ``lr``, and the
    quantities of `lib.probes.QUANTITIES`. ``epochs`` has a row for each epoch: ``epoch`` from 1,
    ``train_loss``, ``train_accuracy`` (while training, on augmented images), ``test_loss``,
    ``test_accuracy``; accuracies are fractions.
    """

    config: Config
    steps: pd.DataFrame
    epochs: pd.DataFrame
    provenance: dict[str, str | int | float]

    @property
    def test_accuracy(self) -> float:
        """Fraction of the test images that are right after the last epoch."""
        return float(self.epochs["test_accuracy"].iloc[-1])


def train(config: Config, progress: bool = True, title: str = "training") -> Run:
    """Trains one network, on the GPU when there is one, and returns all that was measured.

    A bar with that title shows the progress, on a terminal.

    The same config gives the same numbers, on a CPU with the same number of threads bit for bit.

    Raises
    ------
    ValueError
        If the batch is larger than an epoch.
    RuntimeError
        If the data cannot be read.
    DivergedError
        If the loss becomes NaN or infinite.
    """
    start = time.monotonic()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    provenance = _provenance(device)
    if device.type == "cpu":
        _keep_freed_memory()
    dataset = data.load(config.dataset, device)
    steps_per_epoch = _steps_per_epoch(dataset, config)
    model = _build(config, device)
    generator = torch.Generator(device).manual_seed(config.seed)
    weights = models.probed_weights(model)
    probe = WeightProbe(list(weights.values()), steps_per_epoch)
    lrs = per_step(config.lr_schedule, config.epochs, steps_per_epoch).reshape(config.epochs, -1)
    steppers = _steppers(model, config, lrs)

    rows, epochs = [], []
    with tqdm(
        total=lrs.size, desc=title, unit="step", disable=None if progress else True, leave=False
    ) as bar:
        for epoch in range(config.epochs):
            choices = data.draw(dataset, generator)
            batches = _batches(data.augment(dataset, choices), choices.label, config.batch_size)
            rates = [(optimizer, per_epoch[epoch]) for optimizer, per_epoch in steppers]
            losses, accuracy = _train_epoch(model, rates, probe, batches, bar)
            del batches  # an epoch of CIFAR-10 is 600 MB: not two at a time
            rows.append(probe.fetch())
            _check_finite(losses, rows[-1], epoch * steps_per_epoch, config)
            epochs.append(
                (epoch + 1, float(losses.mean(dtype=np.float64)), accuracy, *evaluate(model, dataset))
            )
            bar.set_postfix(epoch=epoch + 1, test_accuracy=f"{epochs[-1][-1]:.3f}")

    return Run(
        config,
        _steps_table(np.concatenate(rows), list(weights), lrs),
        pd.DataFrame(epochs, columns=["epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy"]),
        provenance=provenance | {"seconds": round(time.monotonic() - start, 1)},
    )


def _steps_per_epoch(dataset: data.Dataset, config: Config) -> int:
    steps = dataset.epoch_size // config.batch_size
    if steps == 0:
        raise ValueError(
            f"batch_size={config.batch_size} is larger than an epoch of {config.dataset}; "
            f"it must be at most {dataset.epoch_size}"
        )
    return steps


def _build(config: Config, device) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):  # leave the caller's random state alone
        # the CPU's generator only: torch.manual_seed would reseed the GPU's as well
        torch.default_generator.manual_seed(config.seed)
        model = models.build(config.architecture, config.width)
    return model.to(device, memory_format=torch.channels_last)


def _batches(images, labels, batch_size):
    """Pairs of images and labels; a last partial batch is dropped."""
    whole = len(images) - len(images) % batch_size
    return zip(images[:whole].split(batch_size), labels[:whole].split(batch_size), strict=True)


def _steppers(model, config: Config, lrs: np.ndarray):
    """Pairs of an optimiser and its learning rate at each step; together they move all weights."""
    settings = {"lr": config.lr, "momentum": config.momentum, "weight_decay": config.weight_decay}
    if config.optimizer == "sgd":
        return [(optimizers.SGD(model.parameters(), nesterov=config.nesterov, **settings), lrs)]
    scaled = list(models.scale_invariant_weights(model).values())
    others = [w for w in model.parameters() if all(w is not s for s in scaled)]
    lars_lrs = theory.equilibrium_ratio(lr=lrs, weight_decay=config.weight_decay, momentum=config.momentum)
    lars = optimizers.LARS(scaled, lr=config.lr, momentum=config.momentum)
    return [(lars, lars_lrs), (optimizers.SGD(others, **settings), lrs)]


def _train_epoch(model, steppers, probe, batches, bar):
    """Trains for an epoch without a host synchronisation; losses of its steps, and its accuracy."""
    model.train()
    losses, right, seen = [], 0, 0
    for step, (images, labels) in enumerate(batches):
        for optimizer, lrs in steppers:
            for group in optimizer.param_groups:
                group["lr"] = float(lrs[step])
        model.zero_grad()
        with _autocast(images.device):
            logits = model(images)
        loss = F.cross_entropy(logits.float(), labels)
        loss.backward()
        probe.before_step()
        for optimizer, _ in steppers:
            optimizer.step()
        probe.after_step()
        losses.append(loss.detach())
        right += (logits.detach().argmax(dim=1) == labels).sum()
        seen += len(labels)
        bar.update()
    return torch.stack(losses).cpu().numpy(), float(right) / seen


@torch.no_grad()
def evaluate(model, dataset: data.Dataset, batch_size: int = 1000) -> tuple[float, float]:
    """Mean loss and accuracy on the test images, as they are."""
    model.eval()
    loss, right = 0.0, 0
    for images, labels in zip(
        dataset.test_images.split(batch_size), dataset.test_labels.split(batch_size), strict=True
    ):
        with _autocast(images.device):
            logits = model(dataset.normalise(images)).float()
        loss += F.cross_entropy(logits, labels, reduction="sum")
        right += (logits.argmax(dim=1) == labels).sum()
    return float(loss) / len(dataset.test_labels), float(right) / len(dataset.test_labels)


def _autocast(device):
    # bfloat16 has float32's range: no loss scaling, and weights and optimiser stay float32
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")


def _keep_freed_memory() -> None:
    """Lets glibc keep freed memory for the next step instead of giving it back to the system.

    Every step allocates the same large activations; fetching their pages anew from the kernel
    costs a fifth of the step. Elsewhere than on glibc this does nothing.
    """
    if platform.libc_ver()[0] == "glibc":
        mmap_threshold, trim_threshold = -3, -1  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD of malloc.h
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_threshold, 1 << 30)
        libc.mallopt(trim_threshold, (1 << 31) - 1)


def _check_finite(losses, rows, first_step, config) -> None:
    # no loss follows the last step: weights that it breaks show in what the probe measured
    bad = np.flatnonzero(~(np.isfinite(losses) & np.isfinite(rows).all(axis=(1, 2))))
    if len(bad):
        what = "a weight, gradient or update" if np.isfinite(losses[bad[0]]) else "the loss"
        raise DivergedError(
            f"{what} became infinite or NaN at step {first_step + bad[0]} with {config}; "
            "try a smaller lr, or a later peak_epoch"
        )


def _steps_table(rows: np.ndarray, layers: list[str], lrs: np.ndarray) -> pd.DataFrame:
    """Measured rows ``(steps, layers, quantities)`` as a table with a row for each step and layer."""
    steps = np.arange(lrs.size)
    table = pd.DataFrame(rows.reshape(-1, len(QUANTITIES)), columns=list(QUANTITIES))
    table.insert(0, "step", np.repeat(steps.astype(np.int32), len(layers)))
    table.insert(1, "epoch", np.repeat(((steps + 0.5) / lrs.shape[1]).astype(np.float32), len(layers)))
    codes = np.tile(np.arange(len(layers)), lrs.size)
    table.insert(2, "layer", pd.Categorical.from_codes(codes, categories=layers, ordered=True))
    table.insert(3, "lr", np.repeat(lrs.ravel().astype(np.float32), len(layers)))
    return table


def _provenance(device) -> dict[str, str | int | float]:
    describe = ["git", "describe", "--always", "--abbrev=40", "--dirty"]
    git = subprocess.run(describe, cwd=paths.ROOT, capture_output=True, text=True)
    on_gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if on_gpu else "CPU",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": ".".join(map(str, sys.version_info[:3])),
        "commit": git.stdout.strip() if git.returncode == 0 else "not in a git checkout",
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }
