"""Numbers as people read them, in as few characters as carry the meaning."""

from __future__ import annotations

import time

NONE = "-"


def count(number: int | None) -> str:
    """212, 9.1k, 31k, 4.2M."""
    if number is None:
        return NONE
    if number < 1000:
        return str(number)
    scaled = float(number)
    for unit in ("k", "M", "G", "T"):
        scaled /= 1000
        if scaled < 999.5:
            return f"{scaled:.1f}{unit}" if scaled < 9.95 else f"{scaled:.0f}{unit}"
    return f"{scaled:.0f}T"


def size(number: float | None) -> str:
    """Bytes: 51K, 6.1M, 82M."""
    if number is None:
        return NONE
    for unit in ("B", "K", "M", "G"):
        if number < 1023.5:
            return f"{number:.0f}{unit}" if unit == "B" or number >= 9.95 else f"{number:.1f}{unit}"
        number /= 1024
    return f"{number:.1f}T"


def rate(bytes_per_s: float | None) -> str:
    """0 B/s, 1.4 MB/s."""
    if bytes_per_s is None:
        return NONE
    for unit in ("B", "kB", "MB"):
        if bytes_per_s < 999.5:
            small = unit != "B" and bytes_per_s < 9.95
            return f"{bytes_per_s:.1f} {unit}/s" if small else f"{bytes_per_s:.0f} {unit}/s"
        bytes_per_s /= 1000
    return f"{bytes_per_s:.1f} GB/s"


def short_rate(bytes_per_s: float | None) -> str:
    """1.4M, per second."""
    if bytes_per_s is None:
        return NONE
    return rate(bytes_per_s).removesuffix("B/s").replace(" ", "")


def age(ms: int) -> str:
    """8s, 3m, 2h, 4d."""
    seconds = max(0, ms) // 1000
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def uptime(ms: int) -> str:
    seconds = max(0, ms) // 1000
    days, seconds = divmod(seconds, 86_400)
    clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return f"{days}d {clock}" if days else clock


def clock(at_ms: int, *, with_ms: bool = True) -> str:
    text = time.strftime("%H:%M:%S", time.localtime(at_ms / 1000))
    return f"{text}.{at_ms % 1000:03d}" if with_ms else text


def latency(ms: float | None) -> str:
    """3.1 ms, 214 ms, 1.2 s."""
    if ms is None:
        return NONE
    if ms < 9.95:
        return f"{ms:.1f} ms"
    return f"{ms:.0f} ms" if ms < 1000 else f"{ms / 1000:.1f} s"
