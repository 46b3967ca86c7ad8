"""Runs a program and writes down what it spent. Stands alone and stays small.

    python launcher.py REPORT PROGRAM [ARGUMENT ...]

On Linux a child's peak memory begins with that of the process that forked it: measured from
a test process, every program would look as large as the tests.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path


def main() -> None:
    report, *command = sys.argv[1:]
    began_at = time.monotonic()
    pid = os.posix_spawn(command[0], command, os.environ)
    _, status, usage = os.wait4(pid, 0)
    spent = {
        "wall_seconds": time.monotonic() - began_at,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * 1024,  # [KiB] -> [B]
    }
    Path(report).write_text(json.dumps(spent))
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
