"""Where data, records and builds live; nothing else in the package names a folder."""

import os
from pathlib import Path

import platformdirs

PACKAGE = Path(__file__).resolve().parent
#: Whether this is the `lib` of a checkout, beside the book, and not an installed package.
CHECKOUT = PACKAGE.name == "lib"
#: The checkout, or what an installed package has instead: the folder for its data in the user's home.
ROOT = PACKAGE.parent
if not CHECKOUT:
    ROOT = Path(platformdirs.user_data_dir("weight-decay-equilibrium", appauthor=False))
BOOK = ROOT / "book"
BUILD = ROOT / "_build"
#: The command line, by the name under which the package was imported.
COMMAND = f"python -m {__package__}"


def cifar10() -> Path:
    """Folder that holds (or will hold) ``cifar-10-batches-py``: ``$CIFAR10_ROOT``, else ``data/``."""
    return _chosen("CIFAR10_ROOT", ROOT / "data")


def records(scale: str) -> Path:
    """Folder of the recorded runs of one scale: in ``$RECORDS_ROOT``, else in ``book/records``."""
    return _chosen("RECORDS_ROOT", BOOK / "records" if CHECKOUT else ROOT / "records") / scale


def own_records(scale: str) -> Path:
    """Folder of the runs that readers have trained at settings of their own, beside those of the book."""
    return records("own") / scale


def _chosen(variable: str, default: Path) -> Path:
    """A folder that the user has named, or the default.

    A relative one is taken from the root of the checkout: a chapter is executed in its own folder, and must
    mean the same as the command line. An installed package has no chapters, and takes the current folder.
    Raises ValueError when it begins with the home of nobody.
    """
    given = os.environ.get(variable) or str(default)
    try:
        path = Path(given).expanduser()
    except RuntimeError as error:
        raise ValueError(
            f"{variable}={given!r} is not allowed, as there is no such home; it must be the path of a folder"
        ) from error
    return (ROOT if CHECKOUT else Path.cwd()) / path
