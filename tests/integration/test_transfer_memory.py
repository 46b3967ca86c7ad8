"""However large the object, a transfer holds a few reads of it."""

from __future__ import annotations

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
