"""Where a run in progress stands, kept in a file from which it goes on as if it had never stopped."""

import hashlib
import io
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from tqdm import tqdm

from . import files

#: Raised whenever what is kept changes; a checkpoint of another format is discarded.
FORMAT = 2
#: Seconds of training between two checkpoints, and so the most that a killed run loses, but for its
#: epoch. One of the largest network, 79 MB, takes half a second to write: a sixtieth of this. A run that is
#: over sooner, as on a GPU, writes none.
SECONDS = 30.0
DIGEST = hashlib.sha256


def path_beside(record: Path) -> Path:
    """Where the run of a record keeps its checkpoint until it is recorded; no reader takes it for one."""
    return record.with_name(record.name + ".checkpoint")


class Checkpoint:
    """The file in which a run keeps its state; with ``path=None`` it keeps none.

    ``made_by`` says which run it is, and what its bits depend on: the version of torch, the device,
    the number of threads. Where one of these is another, going on would give other numbers than an
    uninterrupted run has, so the checkpoint is discarded, in words.
    """

    def __init__(self, path: Path | None, made_by: dict[str, str | int]):
        self.path, self.made_by = path, made_by | {"format": FORMAT}
        self.last = time.monotonic()

    def load(self, title: str) -> dict | None:
        """The state that was kept last, or None; says on standard error what becomes of a file that is there.

        Nothing in the file is executed: it holds tensors, numbers and names only.
        """
        if self.path is None or not self.path.exists():
            return None
        try:
            made_by, state = _read(self.path)
        except _DamagedError as error:
            return _discard(self.path, title, str(error))
        other = [
            f"{name} {made_by.get(name)!r} and not {value!r}"
            for name, value in self.made_by.items()
            if made_by.get(name) != value
        ]
        return _discard(self.path, title, f"made with {', '.join(other)}") if other else state

    def save(self, state: Callable[[], dict]) -> None:
        """Keeps the state, unless the last was kept less than ``SECONDS`` ago."""
        if self.path is None or time.monotonic() - self.last < SECONDS:
            return
        packed = io.BytesIO()
        torch.save({"made_by": self.made_by, "state": state()}, packed)
        content = packed.getbuffer()
        with files.whole(self.path) as file:
            # torch checks no sum of what it reads
            file.write(DIGEST(content).digest())
            file.write(content)
        self.last = time.monotonic()


def _discard(path: Path, title: str, reason: str) -> None:
    say(f"{title}: the checkpoint {path} is discarded, {reason}; the run starts anew")
    path.unlink()


class _DamagedError(Exception):
    """A file is no checkpoint that was written whole."""


def _read(path: Path) -> tuple[dict, dict]:
    content = path.read_bytes()
    size = DIGEST().digest_size
    if DIGEST(content[size:]).digest() != content[:size]:
        raise _DamagedError("damaged")
    try:
        kept = torch.load(io.BytesIO(content[size:]), weights_only=True, map_location="cpu")
        return dict(kept["made_by"]), dict(kept["state"])
    except Exception as error:  # a foreign file breaks its readers in many ways
        raise _DamagedError(f"it is not one ({type(error).__name__})") from error


def say(line: str) -> None:
    """Prints a line on standard error, above the bars of runs in progress."""
    tqdm.write(line, file=sys.stderr)
