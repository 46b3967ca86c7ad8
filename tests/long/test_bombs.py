"""Compressed objects as an attack, in a process whose memory and time are limited."""

from __future__ import annotations

import subprocess
import sys

import pytest

_MIB = 1024 * 1024
_MEMORY_BYTES = 512 * _MIB  # all of the interpreter, its libraries and one object's content
_CPU_SECONDS = 60  # of the process: how busy the machine is does not matter

# A body of some megabytes costs seconds where each step costs the same, hours where each costs
# what is left of the body.
_BODIES = {
    "empty gzip members": "gzip.compress(b'', mtime=0) * 400_000",
    "empty zstd frames": "zstandard.compress(b'') * 400_000",
    "skippable zstd frames": "zstandard.compress(b'x') + b'P*M\\x18\\0\\0\\0\\0' * 400_000",
    "zeros behind a gzip member": "gzip.compress(b'x', mtime=0) + bytes(32 << 20)",
    "a gzip bomb": "gzip.compress(bytes(64 << 20)) * 40",
    "a gzip bomb in one member": "one_member()",
    "a zstd bomb": "zstandard.compress(bytes(64 << 20)) * 40",
    "a gzip bomb in a gzip member": "gzip.compress(gzip.compress(bytes(64 << 20)))",
    "a zstd frame that asks for 2 GiB": "ZSTD + bytes([0, 0b10101000]) + b'\\x01\\0\\0'",
    "a zstd frame of unknown size, 128 MiB wide": (
        "ZSTD + bytes([0, 0b10001000]) + b'\\x02\\0\\x10\\0' * 9_000"
    ),
    "a gzip header and no more": "b'\\x1f\\x8b\\x08' + bytes(7)",
    "a gzip name without an end": "b'\\x1f\\x8b\\x08\\x08' + bytes(6) + b'n' * (32 << 20)",
    "two bytes": "b'\\x1f\\x8b'",
    "a zstd magic": "ZSTD",
}
_PROGRAM = f"""
import gzip, resource, zlib, zstandard
from archiver.formats.content import CannotDecompress, TooMuchContent, content_digest

ZSTD = b"\\x28\\xb5\\x2f\\xfd"

def one_member():
    packer, zeros = zlib.compressobj(9, wbits=31), bytes(1 << 20)
    return b"".join(packer.compress(zeros) for _ in range(1100)) + packer.flush()

body = {{body}}
resource.setrlimit(resource.RLIMIT_AS, ({_MEMORY_BYTES}, {_MEMORY_BYTES}))
resource.setrlimit(resource.RLIMIT_CPU, ({_CPU_SECONDS}, {_CPU_SECONDS}))
try:
    content_digest(body, 1 << 30)
    print("read")
except (CannotDecompress, TooMuchContent) as error:
    print(type(error).__name__)
"""


@pytest.mark.parametrize("name", _BODIES)
def test_whatever_an_object_unpacks_to_memory_and_time_are_bounded(name: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(body=_BODIES[name])],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )

    assert ran.returncode == 0, ran.stderr[-500:]
    assert ran.stdout.strip() in {"read", "CannotDecompress", "TooMuchContent"}
    if "bomb" in name and "in a gzip member" not in name:  # that one is a page of bytes
        assert ran.stdout.strip() == "TooMuchContent"
