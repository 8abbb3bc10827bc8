"""Which precision a device computes natively."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # x86 and arm names in /proc/cpuinfo


def supports_bf16(use_cpu: bool) -> bool:
    """Whether bf16 products run in hardware. Where they are emulated, bf16 is slower than fp32."""
    if not use_cpu and torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if not use_cpu:
        return False
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return False
    return any(BF16_FLAGS & set(line.split()) for line in info.read_text().splitlines() if line[:5] in ("flags", "Featu"))


def device_name() -> str:
    """The device in words, for the report: GPU name, or processor architecture and cores."""
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    return f"{torch.get_num_threads()} CPU cores ({platform.machine()}{', native bf16' if supports_bf16(True) else ''})"
