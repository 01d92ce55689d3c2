"""From the chapters to the site: papermill executes them, jupyter-book builds the pages."""

import ast
import asyncio
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import click
import nbformat
import papermill
import yaml
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from papermill.exceptions import PapermillExecutionError
from sphinx_external_toc.parsing import parse_toc_yaml
from tqdm import tqdm

from .. import experiments, paths, scales
from ..scales import Chosen
from . import status

#: Chapters executed at a time: each is a process, which waits for much of its time.
AT_ONCE = 2
#: What execution leaves in a notebook's metadata and no reader needs; it would differ at every run.
VOLATILE = ("papermill", "execution", "widgets")
#: How a line begins that reports an error which no cell raised: one of a thread, of a log, of a destructor.
AN_ERROR = re.compile(r"Traceback \(most recent call last\)|Exception |ERROR\b|CRITICAL\b|[\w.]*Error\b")


class BookError(RuntimeError):
    """The book cannot be built; the message names the chapter or page and says why."""


def build(scale: str | Chosen | None = None) -> Path:
    """Executes the chapters and builds the site; the path of its first page.

    By default each chapter shows the largest scale at which its runs are recorded; chapters are executed in place,
    and the site is ``_build/html``. At a scale, or with settings of one's own, copies are executed, and the site
    is in a folder of its own, such as ``_build/demo/html``; what differs stands at the top of every page.

    Raises
    ------
    ValueError
        If the scale is not known.
    BookError
        If a chapter fails, or the site has a warning; an earlier site is then as it was.
    """
    source, output, given = paths.ROOT, paths.BUILD, {}
    if scale is not None:
        chosen = scales.chosen(scale)
        given = {"scale": chosen.scale} | dict(chosen.changes)
        output = paths.BUILD / re.sub(r"[^\w.=+-]+", "-", "-".join([chosen.scale, *chosen.assignments]))
        source = copy_sources(output / "source")
        if chosen.changes:
            announce(
                source / "_config.yml", f"Settings of your own, at scale {chosen.scale}: {chosen.differences}"
            )
        for chapter in notebooks(source):
            if reason := experiments.why_empty(chapter.stem, chosen):
                empty(chapter, reason)
            elif chosen.changes and not declared(chapter).keys() & dict(chosen.changes):
                tell_apart(chapter)
    chapters = notebooks(source)
    # the last, on the status of the book, shows how long the others took
    for some in (chapters[:-1], chapters[-1:]):
        for chapter, seconds in _executed(some, given):
            status.record_chapter(chapter.parent, chapter.stem, seconds)
    return build_site(source, output)


def empty(chapter: Path, reason: str) -> None:
    """Leaves of a chapter its heading and why it has nothing to show."""
    notebook = nbformat.read(chapter, 4)
    notebook.cells = notebook.cells[:1]
    notebook.cells[0].source = notebook.cells[0].source.splitlines()[0] + f"\n\n{reason}."
    nbformat.write(notebook, chapter)


def tell_apart(chapter: Path) -> None:
    """Says at the top of a chapter that has no such settings that they are not its own."""
    notebook = nbformat.read(chapter, 4)
    heading, _, text = notebook.cells[0].source.partition("\n")
    notebook.cells[0].source = f"{heading}\n\n*This page does not depend on the settings above.*\n{text}"
    nbformat.write(notebook, chapter)


def announce(config: Path, line: str) -> None:
    """Puts a line at the top of every page, by the site's configuration."""
    settings = yaml.safe_load(config.read_text(encoding="utf-8"))
    options = settings.setdefault("sphinx", {}).setdefault("config", {}).setdefault("html_theme_options", {})
    options["announcement"] = line
    config.write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")


def _executed(chapters: list[Path], parameters: Mapping[str, object]) -> Iterator[tuple[Path, float]]:
    """Executes chapters, some at a time, with those of the parameters that each declares; seconds of each."""

    def seconds(chapter: Path) -> float:
        start = time.monotonic()
        given = {name: parameters[name] for name in declared(chapter) if name in parameters}
        try:
            execute(chapter, given)
        finally:
            asyncio.get_event_loop().close()  # which jupyter has made for this thread, and leaves open
        return time.monotonic() - start

    with ThreadPoolExecutor(AT_ONCE) as pool, tqdm(total=len(chapters), unit="chapter") as bar:
        running = {pool.submit(seconds, chapter): chapter for chapter in chapters}
        try:
            for future in as_completed(running):
                yield running[future], future.result()
                bar.set_postfix_str(running[future].stem)
                bar.update()
        finally:
            pool.shutdown(cancel_futures=True)


def notebooks(root: Path) -> list[Path]:
    """The notebooks among the pages of a table of contents, in its order; raises BookError when it has none."""
    if not (root / "_toc.yml").exists():
        raise BookError(
            f"there are no chapters in {root}, as an installed package has none: clone the repository, and "
            "build the book there"
        )
    pages = [root / f"{page}.ipynb" for page in parse_toc_yaml(root / "_toc.yml")]
    return [page for page in pages if page.exists()]


def declared(chapter: Path) -> dict[str, object]:
    """The parameters that a chapter's cell tagged ``parameters`` declares, and their defaults.

    Raises BookError when the file is no notebook, or a default is no literal.
    """
    try:
        return {
            name: ast.literal_eval(p["default"]) for name, p in papermill.inspect_notebook(chapter).items()
        }
    except (SyntaxError, ValueError) as error:
        raise BookError(f"chapter {chapter.stem}: its parameters cannot be read: {error}") from error


def copy_sources(target: Path) -> Path:
    """Copies all that the site is made from, but the records, into a new folder; the folder."""
    shutil.rmtree(target, ignore_errors=True)
    hidden = shutil.ignore_patterns("records", ".*", "__pycache__")
    shutil.copytree(paths.BOOK, target / paths.BOOK.name, ignore=hidden)
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(paths.ROOT / name, target)
    return target


class OwnKernel(AsyncKernelManager):
    """A kernel of the running interpreter, whatever kernels are installed under any name."""

    @property
    def kernel_spec(self) -> KernelSpec:
        """What starts it; without progress bars, which are no result of a chapter.

        Two chapters that train at the same time, each with a thread for every core, would mostly wait for each other.
        """
        threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // AT_ONCE))
        return KernelSpec(**get_kernel_dict(), env={"TQDM_DISABLE": "1", "OMP_NUM_THREADS": threads})


def execute(chapter: Path, parameters: Mapping[str, object]) -> None:
    """Executes a chapter in place, in its own folder.

    What the environment prints as an error output while it runs, such as that a cache cannot be written, is
    said here and left out of the page. Raises BookError when a cell fails, or what is printed is itself
    an error; the file is then as it was.
    """
    try:
        notebook = papermill.execute_notebook(
            chapter,
            None,
            dict(parameters),
            kernel_name="python3",
            kernel_manager_class=OwnKernel,
            cwd=chapter.parent,
            progress_bar=False,
            record_timing=False,
            extra_arguments=["--log-level=ERROR"],  # it warns that its local sockets are not encrypted
            shutdown_kernel="immediate",  # a polite one is reported as a keyboard interrupt
            coalesce_streams=True,  # else one cell's prints are one output or several, by chance
        )
    except PapermillExecutionError as error:
        reason = ": ".join([error.ename, *error.evalue.strip().splitlines()[-1:]])
        raise BookError(f"chapter {chapter.stem} failed: {reason}") from error
    except RuntimeError as error:  # nbclient's, when the kernel dies
        raise BookError(f"chapter {chapter.stem} could not be executed: {error}") from error
    printed = take_stderr(notebook)
    if error := next((line for line in printed if AN_ERROR.match(line)), None):
        raise BookError(
            f"chapter {chapter.stem} printed an error: {error}; all of it:\n" + "\n".join(printed)
        )
    for line in printed:
        tqdm.write(f"chapter {chapter.stem}: {line}", file=sys.stderr)
    tidy(notebook)
    temporary = chapter.with_name(f".{chapter.name}.tmp")
    try:
        temporary.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
        os.replace(temporary, chapter)  # whole or not at all
    finally:
        temporary.unlink(missing_ok=True)


def take_stderr(notebook: nbformat.NotebookNode) -> list[str]:
    """Takes what was printed on standard error out of a notebook; its lines."""
    lines = []
    for cell in notebook.cells:
        outputs = cell.get("outputs", [])
        said = [out for out in outputs if out.get("name") == "stderr"]
        lines += [line for out in said for line in out.text.splitlines() if line.strip()]
        if said:
            cell.outputs = [out for out in outputs if out not in said]
    return lines


def tidy(notebook: nbformat.NotebookNode) -> None:
    """Removes what would differ from run to run, so that equal results are equal files."""
    for node in (notebook, *notebook.cells):
        for key in VOLATILE:
            node.metadata.pop(key, None)
    # the language's patch version
    notebook.metadata.get("language_info", {}).pop("version", None)
    for cell in notebook.cells:
        if "injected-parameters" in cell.metadata.tags:
            cell.metadata.tags.append("remove-cell")  # the pages show results, not papermill's means
        if not cell.metadata.tags:
            del cell.metadata["tags"]


def build_site(source: Path, output: Path, builder: str = "html") -> Path:
    """Builds the pages anew, warnings being errors, into ``output/<builder>``; the first page's path.

    The builder ``singlehtml`` makes one page of them all. Raises BookError with the warnings; an earlier site is then as it was.
    """
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output, prefix="building-") as folder:
        options = ["--builder", builder, "--path-output", folder, "-W", "-n", "--keep-going", "--all", "-q"]
        # it has no `python -m`; what Sphinx makes it keeps: to look for garbage often takes it a third of its time
        run = "import gc; gc.set_threshold(100_000, 50, 50); from jupyter_book.cli.main import main; main()"
        command = [sys.executable, "-c", run, "build", source, *options]
        # Sphinx reads and writes more than a terminal's encoding may have
        environment = os.environ | {"PYTHONIOENCODING": "utf-8"}
        result = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8")
        if result.returncode:
            raise BookError(f"the site was not built; jupyter-book says:\n{complaints(result.stderr)}")
        site = output / builder
        shutil.rmtree(site, ignore_errors=True)
        (Path(folder) / "_build" / builder).rename(site)
    return site / "index.html"


def complaints(log: str) -> str:
    """The warnings and errors in what jupyter-book writes to stderr; all of it when there are none."""
    lines = click.unstyle(log).strip().splitlines()
    return "\n".join([line for line in lines if "WARNING: " in line or "ERROR: " in line] or lines)
