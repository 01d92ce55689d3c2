"""`Config`: one training run, wholly specified."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field, fields, replace
from typing import NamedTuple

import numpy as np

#: Raised by hand whenever a change of the training code changes what a `Config` means.
TRAINING_VERSION = 1

#: Images in an epoch of each data set, known before it is loaded.
EPOCH_IMAGES = {"digits": 6000, "cifar10": 50_000}
#: Far above what any machine trains: a slip of the keyboard is to be named, not to fill the memory.
MOST_WIDTH, MOST_EPOCHS = 1024, 10_000
MOST_LR = 1e38  # records keep it in single precision
OPTIMIZERS = ("sgd", "lars")
PRECISIONS = ("fp32", "bf16")
LAYERS = ("L1", "L2", "L3")
CLASSES = 10
CLASSIFIER = "classifier"
ARCHITECTURES = (
    "backbone, or Extra: or Residual: followed by some of L1, L2, L3 joined by +, as in Residual:L1+L3"
)


def parse_architecture(architecture: str) -> tuple[str, tuple[str, ...]]:
    """Branch kind (``""``, ``"Extra"`` or ``"Residual"``) and the layers that carry one.

    >>> parse_architecture("Residual:L1+L3")
    ('Residual', ('L1', 'L3'))

    Raises ValueError when the name is not of the family.
    """
    if architecture == "backbone":
        return "", ()
    kind, _, names = architecture.partition(":")
    layers = tuple(names.split("+"))
    # one network has one name: the layers in order, none twice
    if kind not in ("Extra", "Residual") or layers != tuple(x for x in LAYERS if x in layers):
        raise ValueError(f"architecture={architecture!r} is not known; it must be {ARCHITECTURES}")
    return kind, layers


class Layer(NamedTuple):
    """Channels that go into a layer and come out, and by what its images are smaller than the network's."""

    channels_in: int
    channels_out: int
    shrunk: int


def layers_of(architecture: str, width: int = 1) -> dict[str, Layer]:
    """The layers with weights of the network of that name, from input to output.

    All but the last, the classifier, are 3×3 convolutions. Raises ValueError when the name is not of the family.
    """
    kind, branches = parse_architecture(architecture)
    found = {"prep": Layer(3, width, 1)}
    for i, name in enumerate(LAYERS):
        channels, shrunk = width << (i + 1), 1 << i
        found[f"layer{i + 1}"] = Layer(channels // 2, channels, shrunk)  # whose output is pooled
        for branch in (
            {"": (), "Extra": ("extra",), "Residual": ("res1", "res2")}[kind] if name in branches else ()
        ):
            found[f"layer{i + 1}.{branch}"] = Layer(channels, channels, 2 * shrunk)
    return found | {CLASSIFIER: Layer(8 * width, CLASSES, 32)}


def operations(architecture: str, width: int, image_size: int = 32) -> dict[str, tuple[float, float]]:
    """Floating-point operations for one image by layer, in millions: forward, and in a whole training step.

    That is forward, the gradient of the weights and that of the input, which the first layer need not
    pass on. A multiplication and an addition are two.
    """
    found = {}
    for name, layer in layers_of(architecture, width).items():
        kernel = 1 if name == CLASSIFIER else 9
        pixels = 1 if name == CLASSIFIER else (image_size // layer.shrunk) ** 2
        forward = 2e-6 * kernel * pixels * layer.channels_in * layer.channels_out
        found[name] = forward, forward * (3 if found else 2)
    return found


@dataclass(frozen=True)
class PiecewiseLinear:
    """Straight lines through ``(knots[i], values[i])``, constant outside the first and last knot.

    A schedule: a frozen callable from training time, in epochs, to a value.
    """

    knots: tuple[float, ...]
    values: tuple[float, ...]

    def __call__(self, epoch):
        """Value at ``epoch``, a number or an array of them."""
        return np.interp(epoch, self.knots, self.values)


def per_step(schedule, epochs: int, steps_per_epoch: int) -> np.ndarray:
    """One value of a schedule for each step, shape ``(epochs * steps_per_epoch,)``, taken at its middle.

    The middle makes the sum over steps the schedule's exact integral (but for the step that holds a
    knot), and keeps a schedule that starts and ends at zero from wasting its first and last step.
    """
    steps = np.arange(epochs * steps_per_epoch)
    return schedule((steps + 0.5) / steps_per_epoch)


def _option(default, help):
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True, kw_only=True)
class Config:
    """One training run: the defaults are the post's own run, at its own size.

    Frozen, hashable, and checked when it is made.

    Raises
    ------
    ValueError
        If a value is of the wrong type or out of range; the message names it and what is allowed.
    """

    dataset: str = _option("cifar10", "what to train on: digits or cifar10")
    architecture: str = _option("Residual:L1+L3", "network, by name: backbone, Extra:…, Residual:…")
    width: int = _option(64, "channels of the first convolution; the others are multiples of it")
    epochs: int = _option(24, "passes over the training set")
    batch_size: int = _option(512, "images in a step; a last partial batch is dropped")
    optimizer: str = _option("sgd", "sgd, or lars for the scale-invariant weights, at rate √(2λα(1−ρ))")
    lr: float = _option(0.4, "learning rate λ at its peak, for the mean loss over the batch")
    peak_epoch: float = _option(5.0, "λ rises linearly from 0 to its peak here, and falls to 0 at the end")
    momentum: float = _option(0.9, "momentum ρ, at least 0 and below 1")
    nesterov: bool = _option(False, "Nesterov momentum instead of heavy-ball")
    weight_decay: float = _option(5e-4, "weight decay α, coupled: its term passes through momentum")
    noise_every: int = _option(
        0, "measure gradients against batch size at the start and after each so many epochs; 0: never"
    )
    precision: str = _option(
        "fp32", "fp32, or bf16: activations and convolutions in bfloat16, weights and optimiser in fp32"
    )
    seed: int = _option(0, "seed of initial weights, order of images and augmentation")

    def __post_init__(self):
        for f in fields(self):
            object.__setattr__(self, f.name, _typed(f.name, getattr(self, f.name), f.type))
        _check(self.dataset in EPOCH_IMAGES, self, "dataset", f"one of {', '.join(EPOCH_IMAGES)}")
        parse_architecture(self.architecture)
        _check(self.optimizer in OPTIMIZERS, self, "optimizer", f"one of {', '.join(OPTIMIZERS)}")
        for name, most in (("width", MOST_WIDTH), ("epochs", MOST_EPOCHS)):
            _check(1 <= getattr(self, name) <= most, self, name, f"a whole number from 1 to {most}")
        images = EPOCH_IMAGES[self.dataset]
        _check(
            1 <= self.batch_size <= images,
            self,
            "batch_size",
            f"at least 1 and at most {images}, the images in an epoch of {self.dataset}",
        )
        _check(0 < self.lr < MOST_LR, self, "lr", f"above 0 and below {MOST_LR:g}")
        _check(
            0 < self.peak_epoch < self.epochs,
            self,
            "peak_epoch",
            f"between 0 and {self.epochs}, the number of epochs",
        )
        _check(0 <= self.momentum < 1, self, "momentum", "at least 0 and below 1")
        _check(not self.nesterov or self.momentum > 0, self, "nesterov", "used with a momentum above 0")
        _check(0 <= self.weight_decay < math.inf, self, "weight_decay", "a finite number from 0 up")
        if self.optimizer == "lars":
            _check(not self.nesterov, self, "nesterov", "left out with optimizer='lars'")
            _check(
                self.weight_decay > 0,
                self,
                "weight_decay",
                "above 0 with optimizer='lars', whose rate it sets",
            )
        _check(self.precision in PRECISIONS, self, "precision", f"one of {', '.join(PRECISIONS)}")
        _check(self.noise_every >= 0, self, "noise_every", "a whole number from 0 up")
        _check(0 <= self.seed < 2**63, self, "seed", "between 0 and 2**63 - 1")

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in an epoch."""
        return EPOCH_IMAGES[self.dataset] // self.batch_size

    @property
    def lr_schedule(self) -> PiecewiseLinear:
        """The learning rate as a function of the epoch, up to `lr` at `peak_epoch` and down to 0."""
        return PiecewiseLinear((0.0, self.peak_epoch, float(self.epochs)), (0.0, self.lr, 0.0))

    def stretched(self, epochs: int) -> "Config":
        """The same run over another number of epochs, with the peak of λ moved in proportion."""
        return replace(self, epochs=epochs, peak_epoch=self.peak_epoch * epochs / self.epochs)

    @property
    def key(self) -> str:
        """Twelve hex digits that name this run, a hash of the settings and of `TRAINING_VERSION`.

        Only settings that differ from the defaults count, so that a setting added later, with the
        old behaviour as its default, leaves the keys of earlier records as they are.
        """
        settings = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        text = json.dumps([TRAINING_VERSION, settings], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def to_json(self) -> str:
        """The settings as a JSON object."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Config":
        """The `Config` whose settings `to_json` wrote.

        Raises ValueError on what is no JSON object, and on settings that this version does not know.
        """
        settings = json.loads(text)
        if not isinstance(settings, dict):
            raise ValueError(f"{text!r} is not an object of settings")
        unknown = sorted(set(settings) - {f.name for f in fields(cls)})
        if unknown:
            raise ValueError(f"unknown settings {unknown}; known are {[f.name for f in fields(cls)]}")
        return cls(**settings)


def _check(good: bool, config: Config, name: str, allowed: str) -> None:
    if not good:
        raise ValueError(f"{name}={getattr(config, name)!r} is not allowed; it must be {allowed}")


def _typed(name: str, value, kind):
    # bool is an int, and an int serves as a float: as one, since lr=4 and lr=4.0 must have one key
    allowed = (int, float) if kind is float else kind
    if not isinstance(value, allowed) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(
            f"{name}={value!r} is of type {type(value).__name__}; it must be of type {kind.__name__}"
        )
    try:
        return kind(value) if kind is not float else kind(value) + 0.0  # -0.0 and 0.0 must have one key
    except OverflowError:
        raise ValueError(f"{name}={value!r} is not allowed; it must be a finite number") from None
