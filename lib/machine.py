"""The machine at work: what it is, and how its memory is used."""

import ctypes
import os
import platform
import subprocess
import time
from pathlib import Path

import torch

from lib import paths


def describe(device) -> dict[str, str | int]:
    """Device, processor, cores, threads, versions and date, of what is measured from now on."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),  # it is of a class of its own
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def provenance(device) -> dict[str, str | int]:
    """The same with the commit of the code, for the record of a run that starts now."""
    describe_commit = ["git", "describe", "--always", "--abbrev=40", "--dirty"]
    git = subprocess.run(describe_commit, cwd=paths.ROOT, capture_output=True, text=True)
    commit = git.stdout.strip() if git.returncode == 0 else "not in a git checkout"
    return describe(device) | {"commit": commit}


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        if lines:
            return lines[0].partition(":")[2].strip()
    return platform.processor() or platform.machine()


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
