"""The machine at work: what it is, and how its memory is used."""

import ctypes
import io
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path

from .. import paths

#: Values of $ONEDNN_MAX_CPU_ISA, oldest first, that keep oneDNN from a processor's units for bfloat16.
WITHOUT_BF16 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI")


def describe() -> dict[str, str | int]:
    """Processor, cores, versions and date of what is done now."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "torch": version("torch"),
        "numpy": version("numpy"),
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def of_training(device) -> dict[str, str | int]:
    """The same with the device and the number of threads of a training that starts now."""
    import torch  # which takes its time to load, and which whoever reads records does not need

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return {"device": name, "threads": torch.get_num_threads()} | describe()


def provenance(device) -> dict[str, str | int]:
    """The same with the commit of the code, for the record of a run that starts now."""
    return of_training(device) | {"commit": _commit()}


def _commit() -> str:
    """The commit of the checkout, with ``-dirty`` where something is changed; else ``unknown``.

    It is unknown where there is no git, where git does not trust the checkout, another user's perhaps,
    and where the code is no checkout: unpacked or installed, and in somebody else's repository perhaps.
    """
    if not _in_own_repository():
        return "unknown"
    return _git("describe", "--always", "--abbrev=40", "--exclude=*", "--dirty") or "unknown"


def _in_own_repository() -> bool:
    this = Path("lib", "machinery", "machine.py").as_posix()
    # tracked under that very name, from the top of the repository that git finds: then it is our own
    return paths.CHECKOUT and _git("ls-files", "--full-name", "--", this) == this


@cache
def has_commit(commit: str) -> bool | None:
    """Whether a commit is one of those that led to the code that is here; None where git cannot tell."""
    if not _in_own_repository() or _git("rev-parse", "--is-shallow-repository") == "true":
        return None
    return _git("merge-base", commit, "HEAD") == commit


def _git(*arguments: str) -> str:
    """What git prints of the checkout, in one line; nothing where it fails or is not there."""
    # set by git for its own hooks, these would lead to another repository
    elsewhere = ("GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE")
    environment = {name: value for name, value in os.environ.items() if name not in elsewhere}
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=paths.ROOT, env=environment, capture_output=True, encoding="utf-8"
        )
    except OSError:  # no git, or one that does not start
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def check_precision(precision: str, device, warn: Callable[[str], None]) -> None:
    """Says through ``warn`` when a device computes bf16 without units for it, and so slowly.

    Raises ValueError when the device has no bfloat16 at all, and when torch makes its tensors in another
    precision than fp32, in which weights, gradients and optimiser are.
    """
    import torch

    if torch.get_default_dtype() != torch.float32:
        raise ValueError(
            f"torch's default dtype is {torch.get_default_dtype()}; to train it must be torch.float32: "
            "call torch.set_default_dtype(torch.float32) before"
        )
    if precision != "bf16" or has_bf16_units(device):
        return
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=True):
        name = torch.cuda.get_device_name(device)
        raise ValueError(f"precision='bf16' is not possible on {name}; it must be fp32 there")
    warn(
        "precision bf16 is emulated on this device, up to twelve times as slow as fp32; "
        "--precision fp32 trains the same network in single precision"
    )


@contextmanager
def whole_float32() -> Iterator[None]:
    """Keeps cuDNN, within, from rounding the float32 factors of a convolution to TF32, as torch lets it by default.

    Their ten bits change a gradient by percents, where float32 itself is off by a fifth of one. cuDNN tries its
    algorithms for every shape besides, and takes the quickest. Without a GPU nothing changes.
    """
    import torch

    with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False):
        yield


def has_bf16_units(device) -> bool:
    """Whether a device multiplies bfloat16 in hardware, as far as it and oneDNN are allowed to."""
    import torch

    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in WITHOUT_BF16:
        return False
    if platform.machine().lower() in ("x86_64", "amd64"):
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return " bf16" in _cpuinfo("Features")


def _processor() -> str:
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _cpuinfo(name: str) -> str:
    """What Linux says of the first core under that name; nothing elsewhere."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


def print_what_can_be_printed() -> None:
    """Lets output show a question mark for a character that its encoding has not, instead of an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a program that calls this one may have put another there
            stream.reconfigure(errors="replace")


def start_without_compiler() -> None:
    """Keeps torch from loading its compiler, two of the seven seconds of a start, for trainings that compile nothing.

    The first optimiser would load it, to be told to leave alone the functions that add weights to an optimiser and
    keep its state. This says so at once; a torch that does not know this mark loads it as before.
    """
    import torch

    for name in ("add_param_group", "state_dict", "load_state_dict"):
        if function := getattr(getattr(torch.optim.Optimizer, name), "__wrapped__", None):
            vars(function).setdefault("__dynamo_disable", function)


def keep_freed_memory() -> None:
    """Lets glibc keep freed memory for the next step instead of giving it back to the system.

    Every step allocates the same large activations; fetching their pages anew from the kernel
    costs a fifth of the step. Elsewhere than on glibc this does nothing.
    """
    if platform.libc_ver()[0] == "glibc":
        mmap_threshold, trim_threshold = -3, -1  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD of malloc.h
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_threshold, 1 << 30)
        libc.mallopt(trim_threshold, (1 << 31) - 1)
