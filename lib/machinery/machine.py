"""The machine at work: what it is, and how its memory is used."""

import ctypes
import os
import platform
import subprocess
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from .. import paths

#: Values of $ONEDNN_MAX_CPU_ISA, oldest first, that keep oneDNN from a processor's units for bfloat16.
WITHOUT_BF16 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI")


def describe() -> dict[str, str | int]:
    """Processor, cores, versions and date of what is done now."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
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
    describe_commit = ["git", "describe", "--always", "--abbrev=40", "--dirty"]
    git = subprocess.run(describe_commit, cwd=paths.ROOT, capture_output=True, text=True)
    commit = git.stdout.strip() if git.returncode == 0 else "not in a git checkout"
    return of_training(device) | {"commit": commit}


def check_precision(precision: str, device, warn: Callable[[str], None]) -> None:
    """Says through ``warn`` when a device computes bf16 without units for it, and so slowly.

    Raises ValueError when the device has no bfloat16 at all.
    """
    import torch

    if precision != "bf16" or has_bf16_units(device):
        return
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=True):
        name = torch.cuda.get_device_name(device)
        raise ValueError(f"precision='bf16' is not possible on {name}; it must be fp32 there")
    warn(
        "precision bf16 is emulated on this device, up to twelve times as slow as fp32; "
        "--precision fp32 trains the same network in single precision"
    )


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
