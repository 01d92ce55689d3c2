"""Records of another machine, taken over into the folder of records that is here."""

import os
import re
import shutil
from pathlib import Path
from typing import NamedTuple

from .. import experiments, library, paths, records, scales
from ..config import PRECISIONS
from ..machinery import files
from ..run import Run


class Merged(NamedTuple):
    """Files of another folder of records, as paths within it, by what became of them."""

    new: list[str]
    same: list[str]
    different: list[str]


def merge(folder: str | os.PathLike) -> Merged:
    """Adds the records of a folder to those that are here; says which were new.

    The folder is one of records, with a folder for each scale, and perhaps ``own`` with runs at settings of one's own.
    A record that is here already stays as it is, also where the other's numbers differ. Every file is checked first:
    unless all are good, nothing is added.

    Raises
    ------
    RuntimeError
        If there is no record in the folder, or a file is not the record of a run that is planned.
    RecordError
        If a record, there or here, is damaged.
    OSError
        If a file cannot be read, or a record not be written.
    """
    root, known, merged = Path(folder), _known(), Merged([], [], [])
    found = {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*.parquet"))}
    places: dict[str, Path] = {}
    if not found:
        raise RuntimeError(
            f"{root}: there is no record in it; it must hold folders of scales, as book/records does"
        )
    for name, path in found.items():
        if not (here := known.get(name) or _own(name)):
            raise RuntimeError(f"{path}: not the record of a run that is planned here; nothing was merged")
        places[name], run = here, records.read(path)
        if not here.exists():
            merged.new.append(name)
        else:
            (merged.same if _same_numbers(run, library.read(here)) else merged.different).append(name)
    for name in merged.new:
        with files.whole(places[name]) as file, found[name].open("rb") as content:
            shutil.copyfileobj(content, file)
    return merged


def _own(name: str) -> Path | None:
    """Where a run at settings of one's own is recorded, by its path within the records; None for what is no such path."""
    match = re.fullmatch(r"own/([^/]+)/([^/]+)/([^/]+-seed\d+-[0-9a-f]+\.parquet)", name)
    if not match or match[1] not in scales.SCALES or match[2] not in experiments.EXPERIMENTS:
        return None
    return paths.own_records(match[1]) / match[2] / match[3]


def _known() -> dict[str, Path]:
    """Where each run that is planned is recorded, in either precision, by its path within the records."""
    planned_at = [
        library.path(planned)
        for scale in scales.SCALES
        for precision in PRECISIONS
        for planned in experiments.planned(scale, precision=precision)
    ]
    return {path.relative_to(path.parents[2]).as_posix(): path for path in planned_at}


def _same_numbers(left: Run, right: Run) -> bool:
    """Whether all that was measured is the same, wherever and whenever it was."""
    tables = ("steps", "epochs", "noise", "frozen_filters", "by_filter")
    return left.diverged_at == right.diverged_at and all(
        getattr(left, t).equals(getattr(right, t)) for t in tables
    )
