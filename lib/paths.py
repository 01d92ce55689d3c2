"""Where data, records and builds live; nothing else in the package names a folder."""

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent
BOOK = ROOT / "book"
BUILD = ROOT / "_build"


def cifar10() -> Path:
    """Folder that holds (or will hold) ``cifar-10-batches-py``: ``$CIFAR10_ROOT``, else ``data/``."""
    return Path(os.environ.get("CIFAR10_ROOT") or ROOT / "data")


def records(scale: str) -> Path:
    """Folder of the recorded runs of one scale: in ``$RECORDS_ROOT``, else in ``book/records``."""
    return Path(os.environ.get("RECORDS_ROOT") or BOOK / "records") / scale
