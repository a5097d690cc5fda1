"""What the device could do at its best, which an update's speed is a share of: model FLOPs utilisation, MFU.

Of a GPU it is what its maker says of dense matrix products in bfloat16, or in float32 without tensor cores' rounding;
of a CPU, what a matrix product has been measured at here, in as many threads as the learner has.
"""

import resource
import sys
import time
from pathlib import Path

import torch

PEAKS = {
    "H100": 989e12,
    "H200": 989e12,
    "H800": 989e12,
    "A100": 312e12,
    "A800": 312e12,
    "L40S": 362e12,
    "B200": 2250e12,
}
"""FLOPs a second in bfloat16, by a part of the device's name."""
FLOAT32_PEAKS = {"H100": 67e12, "H200": 67e12, "H800": 67e12, "A100": 19.5e12, "A800": 19.5e12, "L40S": 92e12}
SIDE, ROUNDS = 1024, 4
OF_THE_MACHINE = ("tokens_per_second", "mfu", "peak_memory_gib")
"""What an update says of where it was made, and two runs of one config need not share."""


def peak_flops(dtype: torch.dtype) -> float | None:
    """FLOPs a second of this process's device; None where nothing is known of it."""
    if torch.cuda.is_available():
        name = torch.cuda.get_device_name()
        peaks = PEAKS if dtype == torch.bfloat16 else FLOAT32_PEAKS
        return next((peak for part, peak in peaks.items() if part in name), None)
    matrix = torch.ones(SIDE, SIDE, dtype=dtype)
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        torch.mm(matrix, matrix)
        seconds.append(time.perf_counter() - started)
    return 2 * SIDE**3 / min(seconds)


def peak_memory() -> int:
    """The most bytes that tensors took on this device since last asked; on a CPU, that this process took."""
    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        return peak
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        peak = int(status.partition("VmHWM:")[2].split()[0]) * 1024
        # From here on Linux begins anew.
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    except (OSError, IndexError):
        # Elsewhere, what it ever took.
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return peak
