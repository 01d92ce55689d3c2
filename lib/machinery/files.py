"""Files written whole or not at all."""

import glob
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def whole(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """A new file that takes its name, and the place of what was there, when the block ends well.

    >>> with whole("numbers.bin") as file:
    ...     file.write(content)

    At every moment the name stands for all that was there before or all that is new, also when the
    machine is switched off. Raises OSError when it cannot be written; what was there then stays.
    """
    path = Path(path)
    with _named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=_prefix(path), suffix=".tmp")
    try:
        with _named(path), os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    # the new name is the folder's, and as lasting as that is
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def remove_leftovers(path: str | os.PathLike) -> None:
    """Removes what a process that was killed while it wrote ``path`` left beside it."""
    path = Path(path)
    for temporary in path.parent.glob(f"{glob.escape(_prefix(path))}*.tmp"):
        temporary.unlink(missing_ok=True)


def check_writable(path: str | os.PathLike) -> None:
    """Raises OSError when `whole` could not write to ``path``: better before a training than after."""
    path = Path(path)
    with _named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Gives an error of the system the name of the file that is meant; it has none, or a temporary one."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, f"cannot be written, {error.strerror or error}", str(path)) from error


def _prefix(path: Path) -> str:
    return f".{path.name}."
