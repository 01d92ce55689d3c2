"""A lock on a file's name, so that two processes do not make the same file."""

import fcntl
import os
from pathlib import Path


class Lock:
    """Held by one process of a machine at a time; the system frees it when that process is gone.

    >>> lock = Lock("run.parquet")
    >>> if lock.acquire():  # it does not wait
    ...     make("run.parquet")
    ...     lock.release()

    The lock is one of a file beside it, ``run.parquet.lock``, which is there while it is held; one
    that a killed process left is no lock, and is taken over.
    """

    def __init__(self, path: str | os.PathLike):
        path = Path(path)
        self.path = path.with_name(path.name + ".lock")
        self._descriptor = None

    def acquire(self) -> bool:
        """Whether the lock is held now, and by nobody else. Raises OSError when the file cannot be made."""
        while True:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BaseException as error:
                os.close(descriptor)
                if isinstance(error, BlockingIOError):
                    return False
                raise
            # who held it before may have removed the file since it was opened here: it locks nothing
            if os.fstat(descriptor).st_nlink:
                self._descriptor = descriptor
                return True
            os.close(descriptor)

    def release(self) -> None:
        """Frees the lock; nothing when it is not held."""
        if self._descriptor is not None:
            self.path.unlink()
            os.close(self._descriptor)
            self._descriptor = None
