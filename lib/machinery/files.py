"""Files written whole or not at all, and locks on their names."""

import errno
import glob
import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from filelock import BaseFileLock


@contextmanager
def whole(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """A new file that takes its name, and the place of what was there, when the block ends well.

    >>> with whole("numbers.bin") as file:
    ...     file.write(content)

    At every moment the name stands for all that was there before or all that is new, also when the
    machine is switched off. A link stays a link, to the new file; to a device or a pipe all is written
    at the end of the block. Raises OSError when it cannot be written; what was there then stays.
    """
    path = Path(path)
    if is_stream(path):
        content = io.BytesIO()  # what writes may have to move to and fro, which a pipe does not allow
        yield content
        with _named(path):
            path.write_bytes(content.getvalue())
        return
    with _named(path):
        path = path.resolve()
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


def is_stream(path: str | os.PathLike) -> bool:
    """Whether a name is that of a device or a pipe, which is written to and never replaced."""
    path = Path(path)
    return path.exists() and not path.is_file() and not path.is_dir()


def remove_leftovers(path: str | os.PathLike) -> None:
    """Removes what a process that was killed while it wrote ``path`` left beside it."""
    path = Path(path).resolve()
    for temporary in path.parent.glob(f"{glob.escape(_prefix(path))}*.tmp"):
        temporary.unlink(missing_ok=True)


def check_writable(path: str | os.PathLike) -> None:
    """Raises OSError when `whole` could not write to ``path``: better before a training than after."""
    path = Path(path)
    with _named(path):
        if is_stream(path):
            if not os.access(path, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return
        folder = path.resolve().parent
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()


def lock_beside(path: str | os.PathLike) -> Path:
    """The file whose lock `claim` takes for that name; it is there while the lock is held."""
    path = Path(path)
    return path.with_name(path.name + ".lock")


def claim(path: str | os.PathLike) -> "BaseFileLock | None":
    """A lock on a file's name, so that two processes do not make the same file; None while another has it.

    >>> if lock := claim("run.parquet"):
    ...     make("run.parquet")
    ...     give_free(lock)

    The system frees the lock of a process that is gone; what such a process leaves is no lock, and is
    taken over. Raises OSError when the lock's file cannot be made.
    """
    from filelock import Timeout  # not for those who only read

    try:
        return claim_in_turn(path, seconds=0)
    except Timeout:
        return None


def claim_in_turn(path: str | os.PathLike, seconds: float = -1) -> "BaseFileLock":
    """The lock of `claim`, waited for; for ever, unless so many ``seconds`` are given."""
    from filelock import FileLock

    lock = FileLock(lock_beside(path), mode=0o644, thread_local=False)
    lock.acquire(timeout=seconds)
    return lock


def give_free(lock: "BaseFileLock") -> None:
    """Frees a lock that `claim` gave, and removes its file."""
    if os.name != "nt":  # where the lock does so itself
        # while it is held: who has opened the file meanwhile finds that it has no name, and makes a new one
        Path(lock.lock_file).unlink(missing_ok=True)
    lock.release()


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Gives an error of the system the name of the file that is meant; it has none, or a temporary one."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, f"cannot be written, {error.strerror or error}", str(path)) from error


def _prefix(path: Path) -> str:
    return f".{path.name}."
