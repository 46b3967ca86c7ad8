"""A script: writes the documentation of the standard library as HTML pages into a zip file.

It runs in a process of its own, because it imports half of the standard library to read its
docstrings, and with an empty environment, because the page of `os` shows the environment.
"""

from __future__ import annotations

import gzip
import importlib
import pydoc
import re
import sys
import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT = 200  # pages

ADDRESS = re.compile(r"(?<=0x)[0-9a-f]{9,}|(?<=handle )[0-9a-f]{9,}")  # new every time

# Importing these opens a browser or a window, prints, or runs somebody else's code.
AVOIDED = frozenset(
    {
        "antigravity",
        "distutils",
        "ensurepip",
        "idlelib",
        "lib2to3",
        "readline",
        "rlcompleter",
        "test",
        "this",
        "tkinter",
        "turtle",
        "turtledemo",
    }
)

# Of the packages only these: their names are no part of sys.stdlib_module_names.
SUBMODULES = """
    asyncio.events asyncio.streams collections.abc concurrent.futures ctypes.util dbm.dumb
    email.headerregistry email.message email.mime.text email.parser email.policy email.utils
    html.entities html.parser http.client http.cookiejar http.cookies http.server
    importlib.abc importlib.machinery importlib.metadata importlib.resources importlib.util
    json.decoder json.encoder logging.config logging.handlers multiprocessing.connection
    multiprocessing.managers multiprocessing.pool os.path unittest.case unittest.mock
    urllib.error urllib.parse urllib.request urllib.response urllib.robotparser
    wsgiref.handlers wsgiref.headers xml.dom.minidom xml.etree.ElementTree xml.sax.handler
    xmlrpc.client xmlrpc.server
""".split()  # noqa: SIM905 - forty names read better without quotes


def main(target: str) -> None:
    with zipfile.ZipFile(target, "x", zipfile.ZIP_STORED) as archive:
        for name, html in documented():
            entry = zipfile.ZipInfo(f"{name}.html.gz")  # its date stays 1980: same zip again
            archive.writestr(entry, gzip.compress(html.encode(), mtime=0))


def documented() -> Iterator[tuple[str, str]]:
    written = 0
    for name in sorted({*sys.stdlib_module_names, *SUBMODULES} - AVOIDED):
        if written == LIMIT:
            return
        if name.startswith("_"):
            continue
        try:
            module = importlib.import_module(name)
        except ImportError:  # of another system, or left out by the distribution
            continue
        page = pydoc.html.page(name, pydoc.html.document(module, name))
        yield name, ADDRESS.sub("0", page)
        written += 1


if __name__ == "__main__":
    main(sys.argv[1])
