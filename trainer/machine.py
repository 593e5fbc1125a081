"""Where figures come from: commit, machine, versions of libraries."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_CPU_INFO = Path("/proc/cpuinfo")
_HERE = Path(__file__).parent


def machine(libraries: Sequence[str]) -> dict[str, str | int]:
    """All of it, with flat keys.

    Args:
        libraries: Those that matter, by the names that pip knows.
    """
    return {
        "date": moment(),
        "commit": commit(),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        **{f"version_{name.replace('-', '_')}": _version(name) for name in libraries},
    }


def moment() -> str:
    """Now, to the second."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


def commit(folder: Path = _HERE) -> str:
    """The commit of the sources that run, with a + where they differ from it; `unknown` outside a repository."""
    # Figures and what is drawn from them are written by what measures.
    wanted = ["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain", "-uno", "--", ":/", ":!/docs"]
    try:
        head, changed = (
            subprocess.run(["git", "-C", str(folder), *each], capture_output=True, text=True, check=True).stdout
            for each in wanted
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.strip() + ("+" if changed.strip() else "")


def _cpu() -> str:
    if _CPU_INFO.is_file():
        for line in _CPU_INFO.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
