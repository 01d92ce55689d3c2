"""What the commands have in common: options and the runs that they mean, and how a command that is stopped ends."""

import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any

import click

from . import scales
from .config import Config

SCALES = f"one of {', '.join(scales.SCALES)}"
SCALE = click.option("--scale", default=scales.DEFAULT_SCALE, show_default=True, help=SCALES)
#: That of the commands that take settings of one's own.
WHICH_SCALE = click.option(
    "--scale", help=f"{SCALES}  [default: {scales.DEFAULT_SCALE}; {scales.OWN_SCALE} with --set]"
)
SET = click.option(
    "--set",
    "changes",
    metavar="NAME=VALUE",
    multiple=True,
    help=f"change a setting of every run, one of {', '.join(scales.KNOBS)}; can be given several times",
)
#: The base run that `train` starts from, for each data set.
BASES = {"digits": scales.base("demo"), "cifar10": scales.base("small")}


def which(scale: str | None, changes: Iterable[str]) -> scales.Chosen:
    """The runs that ``--scale`` and ``--set`` mean."""
    pairs = [change.partition("=") for change in changes]
    for name, equals, value in pairs:
        if not equals or not value:
            raise click.UsageError(f"--set {name}{equals}: give NAME=VALUE, as in --set weight_decay=0.002")
        if [other for other, _, _ in pairs].count(name) > 1:
            raise click.UsageError(f"--set {name} is given more than once: give one value")
    scale = scale or (scales.OWN_SCALE if pairs else scales.DEFAULT_SCALE)
    return scales.chosen(scale, **{name: value for name, _, value in pairs})


def settings(command: Callable) -> Callable:
    """Gives a command one option for each setting of `Config`, with its help."""
    for field in reversed(fields(Config)):
        defaults = {name: getattr(base, field.name) for name, base in BASES.items()}
        if field.name == "dataset":
            default = "digits"
        elif field.name == "peak_epoch":
            default = "5 of 24, or in proportion"
        elif field.type is tuple:
            default = f"{defaults['digits'][0]:g}; given so many times for one each"
        elif len(set(defaults.values())) == 1:
            default = defaults["digits"] if defaults["digits"] != "" else "none"
        else:
            default = ", ".join(f"{value} for {name}" for name, value in defaults.items())
        command = click.option(
            "--" + field.name.replace("_", "-"),
            type=float if field.type is tuple else field.type,
            multiple=field.type is tuple,
            is_flag=field.type is bool,
            default=None,
            help=f"{field.metadata['help']}" + ("" if field.type is bool else f"  [default: {default}]"),
        )(command)
    return command


def config(dataset: str | None, **values: Any) -> Config:
    """The config that `settings` mean: the base run of a data set, with what is given."""
    dataset = dataset or "digits"
    # an unknown name is refused by Config itself
    base = BASES.get(dataset, BASES["cifar10"])
    given = {name: value for name, value in values.items() if value not in (None, ())}
    if "epochs" in given and given["epochs"] > 0:  # else Config itself refuses it
        base = base.stretched(given["epochs"])
    return replace(base, dataset=dataset, **given)


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does: in order."""


@contextmanager
def resumable() -> Iterator[None]:
    """Ends a command that is stopped by SIGINT or SIGTERM with a line, and 130 or 143 as a shell would."""

    def terminate(*_):
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except (KeyboardInterrupt, RuntimeError) as error:
        # a second Ctrl-C can break into the release of a lock, which then complains of itself
        stop = error if isinstance(error, KeyboardInterrupt) else error.__context__
        if not isinstance(stop, KeyboardInterrupt):
            raise
        click.echo("stopped: what is recorded stays, and the same command goes on from there", err=True)
        sys.exit(128 + (signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT))
    finally:
        signal.signal(signal.SIGTERM, before)
