"""Wherever a reader has it: any folder, file, terminal, home and repository."""

import ctypes
import html
import io
import json
import os
import shutil
import stat
import subprocess
import sys
import threading
from pathlib import Path

import matplotlib
import myst_nb
import nbformat
import pandas as pd
import pytest
import traitlets.config
from conftest import few_images, recordable_run
from IPython.core.interactiveshell import InteractiveShell
from nbformat import v4

from lib import __main__ as command_line
from lib import paths, records
from lib.config import Config
from lib.figures import gallery, plots, style
from lib.machinery import files
from lib.results import analysis, prose
from lib.site import book

TINY = ("--width", "1", "--epochs", "1", "--batch-size", "3000")


def lib(*arguments, cwd=paths.ROOT, root=paths.ROOT, environment=None, **how):
    """The command line as a reader starts it, with the `lib` of that checkout."""
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"} | (environment or {})
    how = {"capture_output": True, "encoding": "utf-8"} | how
    return subprocess.run(
        [sys.executable, "-m", "lib", *map(str, arguments)], cwd=cwd, env=environment, **how
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """The package alone, as an archive has it."""
    root = tmp_path_factory.mktemp("unpacked")
    shutil.copytree(paths.PACKAGE, root / "lib", ignore=shutil.ignore_patterns("__pycache__"))
    return root


# --- which commit

COMMIT = (
    "from lib.machinery import machine; print(machine._commit())"  # all of it loads torch, which takes long
)


def commit(root, **environment):
    environment = os.environ | {"PYTHONPATH": str(root)} | environment
    done = subprocess.run(
        [sys.executable, "-c", COMMIT], cwd=root, env=environment, capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def git(folder, *arguments):
    names = ("-c", "user.name=Somebody", "-c", "user.email=Somebody")
    done = subprocess.run(
        ["git", *names, *arguments], cwd=folder, check=True, capture_output=True, encoding="utf-8"
    )
    return done.stdout.strip()


def repository(folder):
    """Makes a folder a repository in which all is committed; the commit."""
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "All of it")
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def unpacked(source, tmp_path) -> Path:
    shutil.copytree(source, tmp_path / "surrounding" / "book")
    return tmp_path / "surrounding" / "book"


def test_the_commit_is_that_of_our_own_checkout(unpacked):
    own = repository(unpacked)
    assert commit(unpacked) == own
    git(unpacked, "tag", "-a", "v1", "-m", "a name is no commit")
    assert commit(unpacked) == own
    (unpacked / "lib" / "theory.py").write_text("")
    assert commit(unpacked) == f"{own}-dirty"


def test_no_commit_is_that_of_another_repository(unpacked):
    repository(unpacked.parent)
    assert commit(unpacked) == "unknown"  # in a folder of it, where everything is committed
    (unpacked / ".git").mkdir()  # damaged: git looks further up
    assert commit(unpacked) == "unknown"


def test_a_copy_that_is_not_tracked_has_no_commit(unpacked):
    (unpacked / "README").write_text("of somebody else")
    git(unpacked, "init", "-q")
    git(unpacked, "add", "README")
    git(unpacked, "commit", "-qm", "Something else")
    assert commit(unpacked) == "unknown"


def test_a_hook_of_another_repository_is_not_believed(unpacked, tmp_path):
    own = repository(unpacked)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    repository(tmp_path / "other")
    assert commit(unpacked, GIT_DIR=str(tmp_path / "other" / ".git")) == own


def test_what_git_does_not_trust_or_cannot_tell_is_unknown(unpacked):
    own = repository(unpacked)
    assert commit(unpacked, GIT_TEST_ASSUME_DIFFERENT_OWNER="1") == "unknown"
    assert commit(unpacked, PATH="") == "unknown"  # there is no git
    assert commit(unpacked) == own  # the control


# --- who can write where


def bound_by_permissions():
    """Makes root heed the permissions of files in the program that is started next."""
    drop_from_bounding_set, dac_override = 24, 1  # of prctl.h and capability.h
    ctypes.CDLL(None).prctl(drop_from_bounding_set, dac_override, 0, 0, 0)


@pytest.fixture
def read_only(source, tmp_path):
    """A checkout and a home in which nothing can be written."""
    root, home = tmp_path / "checkout", tmp_path / "home"
    shutil.copytree(source, root)
    home.mkdir()
    folders = [home, root, *(p for p in root.rglob("*") if p.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    yield root, home
    for folder in folders:
        folder.chmod(0o755)


@pytest.mark.skipif(sys.platform != "linux", reason="permissions that bind root too are Linux's")
def test_who_can_write_neither_the_checkout_nor_home_can_train(read_only, tmp_path):
    root, home = read_only
    everywhere = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "RECORDS_ROOT", "CIFAR10_ROOT")
    environment = dict.fromkeys(everywhere, "") | {"HOME": str(home)}
    how = {"root": root, "environment": environment, "preexec_fn": bound_by_permissions}
    done = lib("train", *TINY, "--out", tmp_path / "run.parquet", cwd=tmp_path, **how)
    assert done.returncode == 0, done.stderr
    assert records.read(tmp_path / "run.parquet").provenance["commit"] == "unknown"
    done = lib("run", "dynamics", "--scale", "demo", cwd=tmp_path, **how)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert "Permission denied" in done.stderr and str(root / "book" / "records") in done.stderr


# --- which folder


@pytest.mark.parametrize("variable, folder", [("CIFAR10_ROOT", paths.cifar10), ("RECORDS_ROOT", None)])
def test_a_folder_that_is_named_means_the_same_everywhere(variable, folder, monkeypatch, tmp_path):
    folder = folder or (lambda: paths.records("demo").parent)
    monkeypatch.setenv("HOME", str(tmp_path))
    for given, meant in {
        "some/data": paths.ROOT / "some" / "data",
        "~/data": tmp_path / "data",
        str(tmp_path / "my data"): tmp_path / "my data",
    }.items():
        monkeypatch.setenv(variable, given)
        for cwd in (paths.ROOT, paths.BOOK, tmp_path):
            monkeypatch.chdir(cwd)
            assert folder() == meant
    monkeypatch.setenv(variable, "~nobody-of-that-name/data")
    with pytest.raises(ValueError, match=f"{variable}='~nobody-of-that-name/data' is not allowed, as there"):
        folder()
    monkeypatch.setenv(variable, "")
    assert folder().is_relative_to(paths.ROOT)


def write_chapter(path: Path, *sources: str) -> Path:
    """A chapter of some cells, the first with the parameters."""
    cells = [v4.new_markdown_cell("# A chapter"), *map(v4.new_code_cell, ('scale = "small"', *sources))]
    cells[1].metadata.tags = ["parameters"]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return path


WEIRD = "my book λ & it's 100% (new)"


@pytest.fixture
def weird(tmp_path) -> Path:
    """A checkout of a small book in a folder with a name that shells and encodings stumble over."""
    root = tmp_path / WEIRD
    (root / "book").mkdir(parents=True)
    (root / "_toc.yml").write_text("format: jb-book\nroot: book/index\nchapters:\n- file: book/chapter\n")
    (root / "_config.yml").write_text(
        "title: Toy\nexclude_patterns: ['.*/**', '_build/**']\nexecute: {execute_notebooks: 'off'}\n"
    )
    (root / "book" / "index.md").write_text("# Toy\n")
    where = "from lib import paths; print(paths.records('demo').parent)"
    write_chapter(root / "book" / "chapter.ipynb", where)
    return root


def test_make_builds_a_checkout_whatever_its_folder_is_called(weird, source):
    for name in ("Makefile", "requirements.txt"):
        shutil.copy(paths.ROOT / name, weird)
    shutil.copytree(paths.ROOT / ".binder", weird / ".binder")
    shutil.copytree(source / "lib", weird / "lib")
    # the book alone: to train takes longer
    with (weird / "lib" / "experiments.py").open("a") as file:
        file.write("\n\ndef planned(*_, **__):\n    return []\n")
    (weird / ".venv" / "bin").mkdir(parents=True)
    python = weird / ".venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    (weird / ".venv" / "installed").touch()
    # a make that runs these tests would have the one below say which folder it leaves
    unwanted = {"PYTHONPATH", "RECORDS_ROOT", "MAKEFLAGS", "MAKELEVEL", "MFLAGS"}
    environment = {k: v for k, v in os.environ.items() if k not in unwanted}

    def made(*arguments):
        how = {"cwd": weird, "env": environment | {"PYTHONPATH": str(weird)}}
        done = subprocess.run(["make", "book", *arguments], capture_output=True, encoding="utf-8", **how)
        assert done.returncode == 0, done.stderr
        return done.stdout

    site = Path(made("SCALE=demo").splitlines()[-1])
    assert site == weird / "_build" / "demo" / "html" / "index.html"
    page = (site.parent / "book" / "chapter.html").read_text(encoding="utf-8")
    assert str(weird / "_build" / "demo" / "records") in html.unescape(page)
    # at other scales, the records stay where they are by default
    assert made("SCALE=small", "--dry-run").strip() == ".venv/bin/python -m lib book --scale small"


def test_setup_puts_the_checkout_on_the_path_of_its_python(weird, source):
    shutil.copytree(paths.ROOT / ".binder", weird / ".binder")
    shutil.copytree(source / "lib", weird / "lib")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", weird / ".venv"], check=True)
    python = weird / ".venv" / "bin" / "python"
    subprocess.run([python, weird / ".binder" / "postBuild"], check=True)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    # as a chapter does, from its own folder, and whatever the terminal's encoding
    for encoding in ("C", "C.UTF-8"):
        done = subprocess.run(
            [python, "-c", "import lib; print(ascii(lib.__file__))"],
            cwd=weird / "book",
            env=environment | {"LC_ALL": encoding},
            capture_output=True,
            encoding="utf-8",
        )
        assert done.stdout.strip() == ascii(str(weird / "lib" / "__init__.py")), done.stderr


# --- which file


def test_a_link_stays_a_link_to_the_new_file(tmp_path):
    target, link = tmp_path / "elsewhere" / "target", tmp_path / "link"
    target.parent.mkdir()
    link.symlink_to(target)
    for content in (b"first", b"second"):  # to nothing, and to a file
        files.check_writable(link)
        with files.whole(link) as file:
            file.write(content)
        assert link.is_symlink() and target.read_bytes() == content
    with pytest.raises(RuntimeError), files.whole(link) as file:
        file.write(b"half")
        raise RuntimeError
    assert target.read_bytes() == b"second"
    assert {p.name for p in tmp_path.rglob("*")} == {"elsewhere", "target", "link"}


@pytest.fixture
def pipe(tmp_path):
    """A named pipe, and what arrives in it."""
    path, arrived = tmp_path / "pipe.svg", []
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: arrived.append(path.read_bytes()))
    reader.start()
    yield path, arrived, reader
    assert stat.S_ISFIFO(path.stat().st_mode)


def test_a_pipe_is_written_to(pipe, run):
    path, arrived, reader = pipe
    files.check_writable(path)
    records.write(run, path)
    reader.join()
    path.with_suffix(".parquet").write_bytes(*arrived)
    assert records.read(path.with_suffix(".parquet")).config == run.config


def test_a_figure_goes_to_a_pipe(pipe):
    path, arrived, reader = pipe
    gallery.save("schedule", "small", path)
    reader.join()
    assert b"<svg" in arrived[0]


def test_nothing_replaces_a_device(tmp_path, run):
    device = tmp_path / "device"
    try:
        os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))  # what /dev/null is
        device.write_bytes(b"")
    except PermissionError:
        device.unlink(missing_ok=True)
        device = Path("/dev/null")  # which the system itself keeps from those who are not root
    files.check_writable(device)
    records.write(run, device)
    gallery.save("schedule", "small", device)
    assert stat.S_ISCHR(device.stat().st_mode)
    assert list(tmp_path.iterdir()) in ([device], [])
    with pytest.raises(OSError, match="cannot be written, No space left on device: '/dev/full'"):
        records.write(run, "/dev/full")


def test_train_keeps_nothing_beside_a_device(monkeypatch):
    from lib import training

    kept = []
    monkeypatch.setattr(
        training, "train", lambda config, checkpoint=None: kept.append(checkpoint) or recordable_run(config)
    )
    monkeypatch.setattr(sys, "argv", ["lib", "train", "--out", "/dev/null"])
    with pytest.raises(SystemExit) as end:
        command_line.main()
    assert end.value.code == 0 and kept == [None]


# --- which terminal


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_terminal_that_has_no_lambda_ends_no_run(encoding, tmp_path, monkeypatch):
    """A training in a process of its own is another test's."""
    from lib import training

    monkeypatch.setattr(training, "train", lambda config, **_: recordable_run(config))
    terminals = {name: io.TextIOWrapper(io.BytesIO(), encoding=encoding) for name in ("stdout", "stderr")}
    for name, terminal in terminals.items():
        monkeypatch.setattr(sys, name, terminal)

    def end(*arguments):
        monkeypatch.setattr(sys, "argv", ["lib", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            command_line.main()
        for terminal in terminals.values():
            terminal.flush()
        return end.value.code

    out = tmp_path / "λ.parquet"
    assert end("train", "--out", out) == 0
    assert out.exists() and b"|g|/|w| over its equilibrium value" in sys.stdout.buffer.getvalue()
    wrong = end("train", "--out", tmp_path / "λ" / "\udcff", "--lr", "0")
    assert "lr=0.0 is not allowed" in wrong
    print(wrong, tmp_path / "λ" / "\udcff", file=sys.stderr)  # as Python does with it


# --- whose settings

THEIR_OWN = {"text.usetex": True, "font.size": 22, "font.family": "serif", "axes.facecolor": "black"}
THEIR_OWN |= {"savefig.facecolor": "red", "svg.fonttype": "none", "lines.linewidth": 9, "axes.xmargin": 0.4}


@pytest.mark.parametrize("format", ["svg", "png"])
def test_a_readers_matplotlibrc_changes_no_figure(format):
    def drawn():
        figure = gallery.picture("schedule", "small").draw()
        return style.files(figure, format), figure

    plain, _ = drawn()
    with matplotlib.rc_context(THEIR_OWN):  # what a matplotlibrc does at import
        changed, figure = drawn()
        shown = style.shown(figure).data
        assert matplotlib.rcParams["font.size"] == 22  # theirs again, for what they draw
    assert changed == plain
    assert "<svg" in shown


def test_what_the_environment_prints_is_said_by_the_command_and_not_by_the_page(tmp_path, capfd):
    warns = "import logging; logging.getLogger('matplotlib').warning('no folder for λ')"
    chapter = write_chapter(tmp_path / "chapter.ipynb", "print('a result')", warns + "; print('another')")
    book.execute(chapter, {})
    text = chapter.read_text(encoding="utf-8")
    outputs = [out for cell in nbformat.read(chapter, 4).cells for out in cell.get("outputs", [])]
    assert [out.text for out in outputs] == ["a result\n", "another\n"]
    assert "stderr" not in text
    assert "chapter chapter: no folder for λ" in capfd.readouterr().err.splitlines()


@pytest.mark.parametrize(
    "source, line",
    [
        ("import threading\nt = threading.Thread(target=lambda: 1 / 0)\nt.start()\nt.join()", "Exception in"),
        ("import logging; logging.basicConfig(); logging.error('lost')", "ERROR:root:lost"),
        ("import sys; print('OSError: no such thing', file=sys.stderr)", "OSError: no such thing"),
    ],
)
def test_an_error_that_is_only_printed_is_one(tmp_path, source, line):
    chapter = write_chapter(tmp_path / "chapter.ipynb", source)
    before = chapter.read_bytes()
    with pytest.raises(book.BookError, match=f"chapter chapter printed an error: {line}"):
        book.execute(chapter, {})
    assert chapter.read_bytes() == before


# --- without weight decay


def test_a_run_without_weight_decay_is_held_against_nothing():
    run = recordable_run(Config(dataset="digits", width=1, epochs=4, peak_epoch=1, weight_decay=0.0))
    assert "no equilibrium" in prose.live(run)
    table = prose.live_table(run)
    assert table.index.tolist() == run.steps["layer"].cat.categories.tolist()
    pd.testing.assert_series_equal(
        table["λ|g|/|w|"], analysis.mean_step(run).round(5), check_names=False, check_index=False
    )
    figure = plots.effective_step(analysis.convolutions(analysis.dynamics(run)), "equilibrium")
    assert all(len(axes.lines) == 1 for axes in figure.axes)  # circles, and no line
    decaying = recordable_run(Config(dataset="digits", width=1, epochs=4, peak_epoch=1))
    assert "Their $R$ runs from" in prose.live(decaying)
    figure = plots.effective_step(analysis.convolutions(analysis.dynamics(decaying)), "equilibrium")
    assert all(len(axes.lines) == 2 for axes in figure.axes)


def test_the_live_chapter_says_so(tmp_path, monkeypatch):
    """Its cells, executed here: another test executes the chapter as it is, in a process of its own."""
    few_images(monkeypatch)
    values = []
    monkeypatch.setattr(myst_nb, "glue", lambda name, value, display: values.append(value))
    settings = traitlets.config.Config()
    settings.HistoryManager.enabled = False
    shell = InteractiveShell(config=settings, ipython_dir=str(tmp_path))
    for cell in nbformat.read(paths.BOOK / "live.ipynb", 4).cells:
        if cell.cell_type == "code":
            done = shell.run_cell(cell.source)
            done.raise_error()
            values.append(done.result)
            if "parameters" in cell.metadata.get("tags", ()):
                shell.user_ns |= {"weight_decay": 0.0, "epochs": 2}
    data = [shell.display_formatter.format(value)[0] for value in values]
    # without pictures, whose pixels are text in which any three letters may stand
    said = [value for some in data for form, value in some.items() if "svg" not in form]
    text = json.dumps(said, ensure_ascii=False)
    assert "Without weight decay nothing shrinks the norms" in text
    assert " inf" not in text and ">inf<" not in text and "nan" not in text
