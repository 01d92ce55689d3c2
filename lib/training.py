"""The one training loop."""

import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F
from tqdm import tqdm

from . import data, gradient_noise, models, steppers
from .config import Config
from .machinery import machine, sources
from .machinery.checkpoints import Checkpoint, say
from .probes import WeightProbe
from .run import (
    EPOCH_COLUMNS,
    QUANTITIES,
    DivergedError,
    Run,
    no_filter,
    no_frozen_filters,
    no_noise,
    part_of_epoch,
)
from .schedules import per_step


def train(
    config: Config, progress: bool = True, title: str = "training", checkpoint: Path | None = None
) -> Run:
    """Trains one network, on the GPU when there is one, and returns all that was measured.

    A bar with that title shows the progress, on a terminal. With ``checkpoint``, a file, the state
    is kept there now and then, at the end of an epoch; a run that finds one of its own goes on from
    it. The file stays: who records the run removes it.

    The same config gives the same numbers, on a CPU with the same number of threads bit for bit,
    with stops or without.

    Raises
    ------
    RuntimeError
        If the data cannot be read.
    DivergedError
        If the loss, or what is measured, becomes NaN or infinite.
    OSError
        If a checkpoint cannot be written.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    machine.check_precision(config.precision, device, say)
    provenance = machine.provenance(device) | {
        "precision": config.precision,
        "sources": sources.digest(),
    }
    if device.type == "cpu":
        machine.keep_freed_memory()
    training = _Training(config, device)
    dataset = data.load(config.dataset, device)
    bits_depend_on = {name: provenance[name] for name in ("torch", "device", "threads", "precision")}
    kept = Checkpoint(checkpoint, {"key": config.key} | bits_depend_on)
    if state := kept.load(title):
        training.load_state_dict(state)
        say(f"{title}: goes on after epoch {len(training.epochs)} of {config.epochs}")

    steps, done = training.lrs.size, training.lrs.shape[1] * len(training.epochs)
    shown = None if progress else True
    bar = tqdm(total=steps, initial=done, desc=title, unit="step", disable=shown, leave=False)
    with bar, machine.whole_float32():
        while training.goes_on:
            training.epoch(dataset, bar)
            if training.goes_on:
                kept.save(training.state_dict)
    run = training.run({**provenance})
    if run.diverged_at is not None:
        raise DivergedError(run)
    return run


def outcome(config: Config, **how) -> Run:
    """The run of `train`, also where it diverged: for a sweep over learning rates that is a result."""
    try:
        return train(config, **how)
    except DivergedError as error:
        return error.run


class _Training:
    """A run in progress: all that its next step depends on, and what was measured so far."""

    def __init__(self, config: Config, device):
        self.start, self.resumed = time.monotonic(), 0
        self.config = config
        self.model = build(config, device)
        self.generator = torch.Generator(device).manual_seed(config.seed)
        self.weights = models.probed_weights(self.model)
        self.probe = WeightProbe(list(self.weights.values()), config.steps_per_epoch, config.by_filter)
        schedule = per_step(config.lr_schedule, config.epochs, config.steps_per_epoch)
        self.lrs = schedule.reshape(config.epochs, -1)
        self.steppers = steppers.of(self.model, config, self.lrs)
        self.rows = [np.empty((0, len(self.weights), len(QUANTITIES)), np.float32)]
        self.filter_rows = [self.probe.fetch_filters()[None][:0]]
        self.epochs, self.noise, self.frozen_filters = [], [], []
        self.diverged_at = None

    @property
    def goes_on(self) -> bool:
        return len(self.epochs) < self.config.epochs and self.diverged_at is None

    def epoch(self, dataset: data.Dataset, bar) -> None:
        """Trains for an epoch, and keeps what was measured, or at which step that was not finite."""
        epoch, steps = len(self.epochs), self.lrs.shape[1]
        if epoch == 0:
            self._measure_noise(dataset)
        of_epoch = [stepper.at(epoch) for stepper in self.steppers]
        choices = data.draw(dataset, self.generator)
        pairs = batches(dataset, choices, self.config.batch_size)
        precision = self.config.precision
        losses, accuracy = train_epoch(self.model, of_epoch, self.probe, pairs, bar, precision)
        rows, filter_sums = self.probe.fetch(), self.probe.fetch_filters()
        # no loss follows the last step: weights that it breaks show in what the probe measured
        finite = np.isfinite(losses) & np.isfinite(rows).all(axis=(1, 2))
        if not finite.all():
            self.diverged_at = epoch * steps + int(np.argmin(finite))
            return
        measured = (float(losses.mean(dtype=np.float64)), accuracy, *evaluate(self.model, dataset, precision))
        if not np.isfinite(measured).all():  # batch norm's averages can overflow by themselves
            self.diverged_at = (epoch + 1) * steps - 1
            return
        self.rows.append(rows)
        self.filter_rows.append(filter_sums[None] / steps)
        self.epochs.append((epoch + 1, *measured))
        self._measure_noise(dataset)
        bar.set_postfix(epoch=epoch + 1, test_accuracy=f"{measured[-1]:.3f}")

    def _measure_noise(self, dataset: data.Dataset) -> None:
        epoch, c = len(self.epochs), self.config
        if c.noise_every and epoch % c.noise_every == 0:
            at = (self.model, dataset, epoch, c.seed)
            self.noise.append(gradient_noise.measure(*at, c.precision))
            self.frozen_filters.append(gradient_noise.measure_filters(*at, c.batch_size, c.precision))

    def state_dict(self) -> dict:
        """All of it as tensors, numbers and names."""
        return {
            "seconds": time.monotonic() - self.start,
            "resumed": self.resumed,
            "model": self.model.state_dict(),
            "optimizers": [stepper.optimizer.state_dict() for stepper in self.steppers],
            "generator": self.generator.get_state(),
            "average": self.probe.average,
            "rows": torch.from_numpy(np.concatenate(self.rows)),
            "filter_rows": torch.from_numpy(np.concatenate(self.filter_rows)),
            "epochs": self.epochs,
            "noise": [table.to_dict("list") for table in self.noise],
            "frozen_filters": [table.to_dict("list") for table in self.frozen_filters],
        }

    def load_state_dict(self, state: dict) -> None:
        """Takes over what `state_dict` gave for the same config."""
        self.start -= state["seconds"]
        self.resumed = state["resumed"] + 1
        self.model.load_state_dict(state["model"])
        for stepper, saved in zip(self.steppers, state["optimizers"], strict=True):
            stepper.optimizer.load_state_dict(saved)
        self.generator.set_state(state["generator"])
        for average, saved in zip(self.probe.average, state["average"], strict=True):
            average.copy_(saved)
        self.rows, self.filter_rows = [state["rows"].numpy()], [state["filter_rows"].numpy()]
        self.epochs = state["epochs"]
        self.noise = [pd.DataFrame(table) for table in state["noise"]]
        self.frozen_filters = [pd.DataFrame(table) for table in state["frozen_filters"]]

    def run(self, provenance: dict[str, str | int | float]) -> Run:
        """What was measured."""
        resumed = {"resumed": self.resumed} if self.resumed else {}
        steps = _steps_table(np.concatenate(self.rows), list(self.weights), self.lrs)
        if self.config.averages:
            steps = _averaged(steps, self.lrs.shape[1], self.config.averages)
        return Run(
            self.config,
            steps,
            pd.DataFrame(self.epochs, columns=list(EPOCH_COLUMNS)),
            provenance | resumed | {"seconds": round(time.monotonic() - self.start, 1)},
            pd.concat(self.noise, ignore_index=True) if self.noise else no_noise(),
            pd.concat(self.frozen_filters, ignore_index=True) if self.frozen_filters else no_frozen_filters(),
            self.diverged_at,
            self._by_filter() if self.config.by_filter else no_filter(),
        )

    def _by_filter(self) -> pd.DataFrame:
        convolutions = models.scale_invariant_weights(self.model)
        filters = [f"{layer}[{i}]" for layer, w in convolutions.items() for i in range(len(w))]
        table = _steps_table(np.concatenate(self.filter_rows), filters, self.lrs.mean(axis=1, keepdims=True))
        steps = self.lrs.shape[1]
        return table.assign(step=table["step"] * steps + (steps - 1) // 2)


def build(config: Config, device) -> torch.nn.Module:
    """The network of a run, with the weights that its seed gives it, channels last in memory."""
    with torch.random.fork_rng(devices=[]):  # leave the caller's random state alone
        # the CPU's generator only: torch.manual_seed would reseed the GPU's as well
        torch.default_generator.manual_seed(config.seed)
        model = models.build(config.architecture, config.width)
    weights = list(models.scale_invariant_weights(model).values())
    with torch.no_grad():
        for w, scale in zip(weights, np.broadcast_to(config.init_scale, len(weights)), strict=True):
            w *= float(scale)
    return model.to(device, memory_format=torch.channels_last)  # pyrefly: ignore[no-matching-overload]


def batches(dataset: data.Dataset, choices: data.Choices, batch_size: int):
    """Pairs of augmented images and their labels; a last partial batch is dropped."""
    whole = len(choices.label) - len(choices.label) % batch_size
    # a batch at a time stays in a processor's cache; a GPU is quicker with an epoch at once, 600 MB
    at_once = whole if choices.label.device.type == "cuda" else batch_size
    for start in range(0, whole, at_once):
        chosen = choices[start : start + at_once]
        images = data.augment(dataset, chosen)
        yield from zip(images.split(batch_size), chosen.label.split(batch_size), strict=True)


def train_epoch(model, moved_by, probe, batches, bar, precision: str = "fp32"):
    """Trains for an epoch without a host synchronisation; losses of its steps, and its accuracy.

    ``moved_by`` is what `lib.steppers.of` returns, with the settings of this epoch; ``batches`` as `batches` does;
    ``precision`` as in `Config`.
    """
    model.train()
    losses, right, seen = [], 0, 0
    for step, (images, labels) in enumerate(batches):
        for stepper in moved_by:
            stepper.set(step)
        model.zero_grad()
        logits = models.logits(model, images, precision)
        loss = F.cross_entropy(logits, labels)
        loss.backward()
        probe.before_step()
        for stepper in moved_by:
            stepper.optimizer.step()
        probe.after_step()
        losses.append(loss.detach())
        right += (logits.detach().argmax(dim=1) == labels).sum()
        seen += len(labels)
        bar.update()
    return torch.stack(losses).cpu().numpy(), float(right) / seen


@torch.no_grad()
def evaluate(
    model, dataset: data.Dataset, precision: str = "fp32", batch_size: int = 1000
) -> tuple[float, float]:
    """Mean loss and accuracy on the test images, as they are."""
    model.eval()
    loss, right = 0.0, 0
    for images, labels in zip(
        dataset.test_images.split(batch_size), dataset.test_labels.split(batch_size), strict=True
    ):
        logits = models.logits(model, dataset.normalise(images), precision)
        loss += F.cross_entropy(logits, labels, reduction="sum")
        right += (logits.argmax(dim=1) == labels).sum()
    return float(loss) / len(dataset.test_labels), float(right) / len(dataset.test_labels)


def _steps_table(rows: np.ndarray, layers: list[str], lrs: np.ndarray) -> pd.DataFrame:
    """Measured rows ``(steps, layers, quantities)`` as a table with a row for each step and layer."""
    steps = np.arange(len(rows))
    table = pd.DataFrame(rows.reshape(-1, len(QUANTITIES)), columns=list(QUANTITIES))
    table.insert(0, "step", np.repeat(steps.astype(np.int32), len(layers)))
    table.insert(1, "epoch", np.repeat(((steps + 0.5) / lrs.shape[1]).astype(np.float32), len(layers)))
    codes = np.tile(np.arange(len(layers)), len(steps))
    table.insert(2, "layer", pd.Categorical.from_codes(codes, categories=layers, ordered=True))
    table.insert(3, "lr", np.repeat(lrs.ravel()[: len(steps)].astype(np.float32), len(layers)))
    return table


def _averaged(table: pd.DataFrame, steps_per_epoch: int, averages: int) -> pd.DataFrame:
    """Means over parts of epochs of a table of steps."""
    part = part_of_epoch(table["step"], steps_per_epoch, averages)
    means = table.groupby([part.rename("part"), "layer"], observed=True).mean().reset_index("layer")
    return means.reset_index(drop=True).astype({"step": np.int32})[list(table.columns)]
