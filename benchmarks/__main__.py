"""`python -m benchmarks`: all that needs no recordings, in turn. Leave the machine alone meanwhile."""

import platform
import subprocess
import sys

from host.machine import processor

ORDER = (
    "machine",
    "callback",
    "engine_parts",
    "model_hop",
    "cpu_paths",
    "cpu_settings",
    "first_stem",
    "oracle",
    "beside_hogs",
)
"""Short ones first; each runs alone too: `python -m benchmarks.NAME --help`."""


def main() -> int:
    """Run all; the exit code is that of the first that failed."""
    print(f"{processor()}, {platform.platform()}, Python {platform.python_version()}", flush=True)
    codes = []
    for name in ORDER:
        print(f"\n== {name}", flush=True)
        codes.append(subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode)
    return next((code for code in codes if code), 0)


if __name__ == "__main__":
    sys.exit(main())
