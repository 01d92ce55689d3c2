"""Records packed into one zip file, to carry them from the machine that trained to another."""

import io
import os
import stat
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from .. import experiments, paths, records
from ..config import Config
from ..machinery import files
from ..training import Run
from . import runner

#: Bytes of an archive, and so of a member; and of all that is unpacked from one.
EXPORT_LIMIT = 16 << 20
IMPORT_LIMIT = 64 << 20


class ArchiveError(RuntimeError):
    """An archive cannot be written or merged; the message says why."""


class Merged(NamedTuple):
    """Names of the members of an archive, by what became of them."""

    new: list[str]
    same: list[str]
    different: list[str]


def export(names: Iterable[str], scale: str, file: str | os.PathLike) -> int:
    """Writes all records of the named experiments at a scale to one zip file; says how many.

    The same records give the same bytes. The file is written whole or not at all, and replaces
    what was there.

    Raises
    ------
    ValueError
        If an experiment or the scale is not known.
    ArchiveError
        If the archive would be larger than `EXPORT_LIMIT`.
    OSError
        If a record cannot be read, or the file not written.
    """
    present = {member: path for member, (path, _) in runner.planned(names, [scale]).items() if path.exists()}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:  # records are compressed already
        for member, path in sorted(present.items()):
            info = zipfile.ZipInfo(member)  # of 1980: the date is not that of any machine
            info.create_system, info.external_attr = 3, (stat.S_IFREG | 0o644) << 16
            archive.writestr(info, path.read_bytes())
            if packed.tell() > EXPORT_LIMIT:
                break
    if packed.tell() > EXPORT_LIMIT:
        raise ArchiveError(
            f"{file}: not written, {len(present)} records are more than the {EXPORT_LIMIT >> 20} MiB that "
            "an archive may have; export fewer experiments at a time"
        )
    with files.whole(file) as archive:
        archive.write(packed.getvalue())
    return len(present)


def merge(file: str | os.PathLike) -> Merged:
    """Adds the records of an archive to those that are here; says which were new.

    A record that is here already stays as it is, also where the archive's has other numbers. Every
    member is checked first: unless all are good, nothing is added.

    Raises
    ------
    ArchiveError
        If the file is no archive, or a member is not the record of a run that this version knows.
    RecordError
        If a record that is here is damaged.
    OSError
        If the file cannot be read, or a record not be written.
    """
    merged = Merged([], [], [])
    known = runner.planned(experiments.EXPERIMENTS, experiments.SCALES)
    root = paths.records(next(iter(experiments.SCALES))).parent
    root.mkdir(parents=True, exist_ok=True)
    # beside the records: what was checked there gets its place by a link
    with tempfile.TemporaryDirectory(dir=root, prefix=".import-") as folder:
        unpacked = _unpack(Path(file), known, Path(folder))
        for member, (_, run) in unpacked.items():
            here, _ = known[member]
            if not here.exists():
                merged.new.append(member)
            else:
                (merged.same if _same_numbers(run, records.read(here)) else merged.different).append(member)
        for member in merged.new:
            known[member][0].parent.mkdir(parents=True, exist_ok=True)
            os.link(unpacked[member][0], known[member][0])  # which, unlike a move, replaces nothing
    return merged


def _unpack(file: Path, known: dict[str, tuple[Path, Config]], folder: Path) -> dict[str, tuple[Path, Run]]:
    """Every member of an archive, checked, as a file in the folder and as a run, by name."""
    if file.stat().st_size > IMPORT_LIMIT:
        raise ArchiveError(f"{file}: larger than the {IMPORT_LIMIT >> 20} MiB that are merged at a time")
    unpacked = {}
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if sum(info.file_size for info in members) > IMPORT_LIMIT:
                raise ArchiveError(
                    f"{file}: unpacks to more than {IMPORT_LIMIT >> 20} MiB; nothing was merged"
                )
            for info in members:
                member = info.orig_filename  # the other is up to its first null byte
                try:
                    if member not in known:
                        raise ArchiveError("it is not the record of a run that this version knows")
                    if member in unpacked:
                        raise ArchiveError("there are two of that name")
                    unpacked[member] = _checked(archive, info, folder, known[member][1])
                except Exception as error:  # a damaged or foreign file breaks its readers in many ways
                    raise ArchiveError(
                        f"{file}: {member!r} is refused, {error}; nothing was merged"
                    ) from error
    except zipfile.BadZipFile as error:
        raise ArchiveError(f"{file}: not an archive of records ({error})") from error
    return unpacked


def _checked(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, folder: Path, config: Config
) -> tuple[Path, Run]:
    """A member as a file in the folder, and the run that it holds; the reason against it is raised."""
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ArchiveError(f"its compression {info.compress_type} is not one of stored, deflated")
    if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
        raise ArchiveError("it is not a plain file")
    if info.file_size > EXPORT_LIMIT:
        raise ArchiveError(f"it is larger than {EXPORT_LIMIT >> 20} MiB")
    with archive.open(info) as member:
        content = member.read(EXPORT_LIMIT + 1)
    if len(content) != info.file_size:
        raise ArchiveError(f"it has {len(content)} bytes and says {info.file_size}")
    path = folder / info.filename
    with files.whole(path) as file:
        file.write(content)
    # Parquet, too, can say little that unpacks to much
    table = pq.read_metadata(pa.BufferReader(content))
    sizes = [table.row_group(i).total_byte_size for i in range(table.num_row_groups)]
    if max(sum(sizes), table.num_rows * table.num_columns) > IMPORT_LIMIT:
        raise ArchiveError(f"its table unpacks to more than {IMPORT_LIMIT >> 20} MiB")
    try:
        run = records.read(path)
    except records.RecordError as error:  # its path and its remedy are of the records that are here
        raise ArchiveError(str(error).removeprefix(f"{path}: ").partition("; remove it")[0]) from error
    if run.config != config:
        raise ArchiveError(f"it holds another run, {run.config}")
    return path, run


def _same_numbers(left: Run, right: Run) -> bool:
    """Whether all that was measured is the same, wherever and whenever it was."""
    tables = ("steps", "epochs", "noise")
    return left.diverged_at == right.diverged_at and all(
        getattr(left, t).equals(getattr(right, t)) for t in tables
    )
