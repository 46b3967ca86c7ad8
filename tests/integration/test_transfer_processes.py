"""A transfer in a process of its own: what it holds, and how it ends beside a silent pipe."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from tests.harness.spent import python_measured

MOST_BYTES = 40 * 10**6  # above the interpreter: chunks of 8 MiB, and what it imports
GIB_OF_ZEROS = textwrap.dedent(
    """
    from archiver.engine.transfer import stream_transfer

    class Zeros:
        left_bytes = 1 << 30

        def read(self, size_bytes):
            given = bytes(min(size_bytes, self.left_bytes, {most}))
            self.left_bytes -= len(given)
            return given

    class Sink:
        def write(self, body):
            return len(body)

    print(stream_transfer(Zeros(), Sink()).total_size)
    """
)


@pytest.mark.parametrize("most", [1 << 16, 1 << 30], ids=["short reads", "whole chunks"])
def test_a_gib_costs_a_few_reads(most: int) -> None:
    _, idle = python_measured({}, ["-c", "pass"])

    ran, spent = python_measured({}, ["-c", GIB_OF_ZEROS.format(most=most)])

    assert ran.stdout == f"{1 << 30}\n", ran.stderr
    assert spent.peak_bytes - idle.peak_bytes < MOST_BYTES


SILENT_STDIN = textwrap.dedent(
    """
    import io
    from archiver.api import custom_profile, errors, stream_transfer

    source = open(0, "rb", buffering=0, closefd=False)
    try:
        stream_transfer(source, io.BytesIO(), custom_profile(50, 1, timeout_seconds=0.5))
    except errors.TransferTimedOut as exc:
        print(exc.offset)
    """
)


def test_a_process_ends_though_its_standard_input_is_waited_for() -> None:
    """As docs/library.md says to open it: of a buffered one Python waits for the lock."""
    with subprocess.Popen(
        [sys.executable, "-c", SILENT_STDIN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            assert process.wait(60) == 0
            assert process.stdout is not None
            assert process.stdout.read() == b"0\n"
        finally:
            process.kill()
