"""The machine that trains: what it is, and how its memory is used."""

import ctypes
import platform
import subprocess
import sys
import time

import torch

from lib import paths


def provenance(device) -> dict[str, str | int | float]:
    """Device, threads, versions, commit and date, for the record of a run that starts now."""
    describe = ["git", "describe", "--always", "--abbrev=40", "--dirty"]
    git = subprocess.run(describe, cwd=paths.ROOT, capture_output=True, text=True)
    on_gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if on_gpu else "CPU",
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),  # it is of a class of its own
        "python": ".".join(map(str, sys.version_info[:3])),
        "commit": git.stdout.strip() if git.returncode == 0 else "not in a git checkout",
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


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
