"""`Config`: one training run, wholly specified."""

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from typing import NamedTuple

from .schedules import PiecewiseLinear

#: Raised by hand whenever a change of the training code changes what a `Config` means.
TRAINING_VERSION = 1

#: Images in an epoch of each data set, known before it is loaded.
EPOCH_IMAGES = {"digits": 6000, "cifar10": 50_000}
#: Far above what any machine trains: a slip of the keyboard is to be named, not to fill the memory.
MOST_WIDTH, MOST_EPOCHS = 1024, 10_000
MOST_LR = 1e38  # records keep it in single precision
OPTIMIZERS = ("sgd", "lars", "adamw", "adam")
CONVOLUTIONS = "convolutions"  # all of them, as a name of layers
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
    optimizer: str = _option(
        "sgd",
        "sgd; or, of the scale-invariant weights, lars at rate √(2λα(1−ρ)), adamw, or adam with α in the gradient",
    )
    lr: float = _option(0.4, "learning rate λ at its peak, for the mean loss over the batch")
    peak_epoch: float = _option(5.0, "λ rises linearly from 0 to its peak here, and falls to 0 at the end")
    hold_epoch: float = _option(0.0, "λ stays at its peak to here before it falls; 0: it falls at once")
    momentum: float = _option(0.9, "momentum ρ, at least 0 and below 1")
    nesterov: bool = _option(False, "Nesterov momentum instead of heavy-ball")
    weight_decay: float = _option(5e-4, "weight decay α, coupled: its term passes through momentum")
    decay_follows_lr: bool = _option(False, "α falls in proportion to λ after the peak")
    layers: str = _option("", "which layers have λ and α of their own: the name of one, or convolutions")
    layers_lr: float = _option(1.0, "their λ, over that of the others")
    layers_decay: float = _option(1.0, "their α, over that of the others")
    init_scale: tuple = _option(
        (1.0,), "what the initial convolutions are multiplied with: a number for all, or one for each"
    )
    clip: float = _option(0.0, "clip |g| of each convolution at so many times its running rms; 0: never")
    smoothing: float = _option(0.0, "decay of the running rms of |g|, that of clip or in place of LARS's |g|")
    lag: bool = _option(False, "LARS at its rate times what SGD's lag makes of it while λ falls")
    overlap: tuple = _option(
        (0.0,),
        "LARS at its rate times 1/√(1+2ρo), of gradients with overlap o: for all, or for each convolution",
    )
    noise_every: int = _option(
        0, "measure gradients against batch size at the start and after each so many epochs; 0: never"
    )
    averages: int = _option(0, "keep averages over so many parts of each epoch; 0: keep every step")
    by_filter: bool = _option(False, "measure the filters of the convolutions too, averaged over each epoch")
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
        _check(
            not self.hold_epoch or self.peak_epoch < self.hold_epoch < self.epochs,
            self,
            "hold_epoch",
            f"0, or between peak_epoch={self.peak_epoch} and {self.epochs}, the number of epochs",
        )
        for name, good, allowed in _variants(self):
            _check(good, self, name, allowed)
        _check(self.precision in PRECISIONS, self, "precision", f"one of {', '.join(PRECISIONS)}")
        _check(self.noise_every >= 0, self, "noise_every", "a whole number from 0 up")
        _check(0 <= self.seed < 2**63, self, "seed", "between 0 and 2**63 - 1")

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in an epoch."""
        return EPOCH_IMAGES[self.dataset] // self.batch_size

    @property
    def fall_epoch(self) -> float:
        """The epoch from which λ falls."""
        return self.hold_epoch or self.peak_epoch

    @property
    def lr_schedule(self) -> PiecewiseLinear:
        """The learning rate as a function of the epoch, up to `lr` at `peak_epoch` and from `fall_epoch` down to 0."""
        peak = tuple(dict.fromkeys((self.peak_epoch, self.fall_epoch)))
        return PiecewiseLinear((0.0, *peak, float(self.epochs)), (0.0, *(self.lr for _ in peak), 0.0))

    @property
    def weight_decay_schedule(self) -> PiecewiseLinear:
        """The weight decay as a function of the epoch: constant, or falling as λ does."""
        end = 0.0 if self.decay_follows_lr else self.weight_decay
        return PiecewiseLinear((self.fall_epoch, float(self.epochs)), (self.weight_decay, end))

    def stretched(self, epochs: int) -> "Config":
        """The same run over another number of epochs, with the peak of λ moved in proportion."""
        longer = epochs / self.epochs
        hold_epoch = self.hold_epoch * longer
        return replace(
            self, epochs=epochs, peak_epoch=self.peak_epoch * epochs / self.epochs, hold_epoch=hold_epoch
        )

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


def _variants(c: Config) -> Iterator[tuple[str, bool, str]]:
    """What variants need, and refuse beside them: a setting, whether it is allowed, and what is."""
    convolutions = list(layers_of(c.architecture))[:-1]
    layers = (CONVOLUTIONS, *convolutions, CLASSIFIER)
    yield "layers", c.layers in ("", *layers), f"empty or one of {', '.join(layers)}"
    for name in ("layers_lr", "layers_decay"):
        value = getattr(c, name)
        yield name, 0 <= value < math.inf, "a finite number from 0 up"
        yield name, bool(c.layers) or value == 1, "1 where layers names none"
    for name in ("init_scale", "overlap"):
        yield name, len(getattr(c, name)) in (1, len(convolutions)), f"1 number or {len(convolutions)}"
    yield "init_scale", all(0 < x < math.inf for x in c.init_scale), "finite numbers above 0"
    yield "overlap", all(1 + 2 * c.momentum * o > 0 for o in c.overlap), "numbers above −1/(2ρ)"
    yield "clip", 0 <= c.clip < math.inf, "a finite number from 0 up"
    yield "clip", not (c.clip and c.layers), "0 where layers have λ and α of their own"
    yield "smoothing", 0 <= c.smoothing < 1, "at least 0 and below 1"
    yield "averages", c.averages >= 0, "a whole number from 0 up"
    with_it = f"with optimizer={c.optimizer!r}"
    if c.optimizer != "sgd":
        yield "nesterov", not c.nesterov, f"left out {with_it}"
        yield "clip", not c.clip, f"0 {with_it}"
    if c.optimizer == "lars":
        yield "weight_decay", c.weight_decay > 0, f"above 0 {with_it}, whose rate it sets"
        yield "decay_follows_lr", not c.decay_follows_lr, f"left out {with_it}, which has no decay"
        yield "layers", not c.layers, f"empty {with_it}, which has a rate for all"
    else:
        yield "lag", not c.lag, f"left out {with_it}, as it is LARS's"
        yield "overlap", not any(c.overlap), f"0 {with_it}, as it is LARS's"
        yield "smoothing", bool(c.smoothing) == bool(c.clip), f"above 0 {with_it} where clip is, and else 0"
    if c.optimizer in ("adamw", "adam"):
        yield "layers", c.layers == CONVOLUTIONS, f"{CONVOLUTIONS!r} {with_it}, whose λ and α are their own"


def _check(good: bool, config: Config, name: str, allowed: str) -> None:
    if not good:
        raise ValueError(f"{name}={getattr(config, name)!r} is not allowed; it must be {allowed}")


def _typed(name: str, value, kind):
    if kind is tuple:
        if not isinstance(value, tuple | list) or not value:
            raise ValueError(f"{name}={value!r} is not allowed; it must be a tuple of numbers")
        return tuple(_typed(name, number, float) for number in value)
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
