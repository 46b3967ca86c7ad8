"""docs/library.md, run as it stands; and that its one module is all one needs."""

from __future__ import annotations

import ast
import hashlib
import io
import re
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import archiver.api
from archiver.api import (
    Digest,
    EgressBudget,
    Evidence,
    FileColdStore,
    FileHotStore,
    LedgerSettings,
    PostgresLedger,
    Secret,
    Settings,
    SourceParameters,
    SqlSource,
    Stop,
    Summary,
    SweepPlan,
    SystemClock,
    errors,
    events,
    migrate_ledger,
    open_archiver,
    sweep_by_hand,
)
from tests.harness.hover import BUCKET
from tests.integration.test_writing_a_source import BLOCKS as SOURCE_BLOCKS
from tests.integration.test_writing_a_source import World, create_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from archiver.model import ColdKey, ColdLocation
    from tests.harness.postgres import Databases
    from tests.harness.scene import Scene

DOCUMENT = Path(__file__).parents[2] / "docs" / "library.md"
_BLOCK = re.compile(r"^```python (\S+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
BLOCKS = dict(_BLOCK.findall(DOCUMENT.read_text()))


def run_block(name: str, **given: object) -> dict[str, Any]:
    """A block of the page, as it stands; the names it leaves behind."""
    namespace: dict[str, Any] = dict(given)
    exec(compile(BLOCKS[name], f"library.md: {name}", "exec"), namespace)  # noqa: S102
    return namespace


@pytest.fixture
def set_environment(monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[str, str]], None]:
    def set_it(settings: Mapping[str, str]) -> None:
        for name, value in settings.items():
            monkeypatch.setenv(name, value)

    return set_it


def test_every_block_of_the_page_is_run_here_and_needs_one_module() -> None:
    assert BLOCKS.keys() == {
        "settings",
        "events",
        "stop",
        "by-hand",
        "copy",
        "landing",
        "objects",
        "objects-by-hand",
        "puts",
    }
    for block in BLOCKS.values():
        ours = [
            (node.module, name.name)
            for node in ast.walk(ast.parse(block))
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("archiver")
            for name in node.names
        ]
        assert {module for module, _ in ours} == {"archiver.api"}
        assert {name for _, name in ours} <= set(archiver.api.__all__)


def test_all_that_is_public_is_there() -> None:
    assert all(hasattr(archiver.api, name) for name in archiver.api.__all__)


def test_the_library_does_not_wait_for_boto3() -> None:
    seen = "import sys, archiver.api; print({'boto3', 'botocore'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", seen], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "set()"


def test_the_command_does_not_wait_for_the_library() -> None:
    seen = "import sys, archiver.cli.main; print('archiver.app' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", seen], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "False"


def test_a_sweep_from_a_mapping(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    """The page says /mnt: the same below a folder of this test."""
    page = scene.due_page()
    (tmp_path / "archive" / "pages").mkdir(parents=True)
    (tmp_path / "hot" / BUCKET / page.path).parent.mkdir(parents=True)
    (tmp_path / "hot" / BUCKET / page.path).write_bytes(page.body)
    monkeypatch.setitem(
        BLOCKS,
        "settings",
        BLOCKS["settings"]
        .replace("file:///mnt", tmp_path.as_uri())
        .replace('"ARCHIVE_BUCKET"', '"ARCHIVE_RETENTION_JOBS": "0", "ARCHIVE_BUCKET"'),
    )

    left = run_block("settings", database_url=scene.database_url)

    assert (left["summary"].state, left["summary"].archived) == ("done", 1)
    assert (tmp_path / "archive" / "pages" / page.cold_key).read_bytes() == page.body
    told = capsys.readouterr().out
    assert events.ObjectArchived.NAME in told
    assert events.SweepEnded.NAME in told
    assert told.endswith("done 1 0\n")  # within its grace


def test_events_are_picked_by_their_type(
    scene: Scene, set_environment: Callable[[Mapping[str, str]], None]
) -> None:
    page, bad = scene.due_page(), scene.due_page()
    scene.hot.delete(BUCKET, [bad.path])
    set_environment(scene.settings)

    left = run_block("events")

    ((id_, key, digest),) = left["archived"]
    assert (id_, key, len(digest)) == (page.task_id, page.cold_key, 64)
    assert [it.partition(":")[0] for it in left["troubles"]] == [bad.task_id]


def test_a_sweep_is_stopped_from_another_thread(
    scene: Scene, set_environment: Callable[[Mapping[str, str]], None]
) -> None:
    scene.due_page()
    set_environment(scene.settings)

    (summary,) = run_block("stop")["summaries"]

    assert (summary.state, summary.stopped, summary.archived) == ("stopped", "signal", 0)
    assert scene.lost() == []


def test_a_sweep_is_stopped_by_its_observer_and_the_next_one_goes_on(scene: Scene) -> None:
    pages = [scene.due_page() for _ in range(12)]
    stop = Stop()

    def observe(event: events.Event) -> None:
        if isinstance(event, events.ObjectArchived):
            stop.request("signal")

    settings = Settings.read(scene.settings | {"ARCHIVE_BATCH_SIZE": "2"})
    with open_archiver(settings, observe, SystemClock()) as archiver:
        first = archiver.once(None, None, stop)
        assert (first.state, first.stopped) == ("stopped", "signal")
        second = archiver.once(None, None, Stop())
    assert second.state == "done"
    assert first.archived + second.archived == len(pages)
    assert scene.lost() == []


# --- copying --------------------------------------------------------------------------------


def test_a_copy_that_is_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The source is cut at first: the page's second part goes on with all of it."""
    body = bytes(range(256)) * 8192
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(body[: 3 << 19])
    first, _, then = BLOCKS["copy"].partition("with open(source_path")
    later = then.index("with open(source_path")

    namespace: dict[str, Any] = {
        "source_path": source,
        "target_path": target,
        "promised": Digest.of(body),
        "size": len(body),
    }
    parts = (first, "with open(source_path" + then[:later], then[later:])
    for part in parts:
        exec(compile(part, "library.md: copy", "exec"), namespace)  # noqa: S102
        source.write_bytes(body if "print(exc)" in part else source.read_bytes())

    assert target.read_bytes() == body
    told = capsys.readouterr().out
    assert "75%" in told
    assert "expected=2097152 seen=1572864" in told
    assert told.endswith("True 524288 2097152\n")


def test_a_file_that_lands(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"some bytes")

    left = run_block(
        "landing", source_path=source, target_path=target, promised=Digest.of(b"some bytes")
    )

    assert target.read_bytes() == b"some bytes"
    assert not left["result"].resumed
    assert {entry.name for entry in tmp_path.iterdir()} == {"source", "target"}


# --- by hand --------------------------------------------------------------------------------


@pytest.fixture
def avatars(databases: Databases) -> Iterator[World]:
    avatars = World(databases.like("avatars_of_the_page", create_table))
    yield avatars
    avatars.connection.close()


def _with_picture(avatars: World, tmp_path: Path) -> tuple[Path, Path]:
    hot, cold = tmp_path / "hot", tmp_path / "cold"
    (hot / "b").mkdir(parents=True)
    (cold / "avatars-archive").mkdir(parents=True)
    (hot / "b" / "a.png").write_bytes(b"\x89PNG")
    avatars.connection.execute(
        "insert into avatars (id, replaced_at, bucket, path) "
        "values ('a', now() - interval '40 days', 'b', 'a.png')"
    )
    return hot, cold


def test_a_sweep_of_parts_made_by_hand(
    avatars: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hot, cold = _with_picture(avatars, tmp_path)

    left = run_block(
        "by-hand",
        database_url=avatars.url,
        avatars_sql=SOURCE_BLOCKS["avatars.sql"],
        hot_folder=hot,
        cold_folder=cold,
    )

    summary: Summary = left["summary"]
    assert (summary.state, summary.archived, summary.pending_release) == ("done", 1, 1)
    assert avatars.flipped_to("a") == "people/avatars/a.png"
    assert (cold / "avatars-archive" / "people/avatars/a.png").read_bytes() == b"\x89PNG"
    assert (hot / "b" / "a.png").exists()  # 7 days
    assert "ObjectArchived" in capsys.readouterr().out
    (evidence,) = avatars.connection.execute(
        "select evidence from archiver.archived"
    ).fetchall()
    assert evidence == (Evidence.READBACK,)


def test_by_hand_too_one_place_is_not_two(avatars: World, tmp_path: Path) -> None:
    """The cold bucket is seen from the hot store: no row may point into the archive."""
    hot, _ = _with_picture(avatars, tmp_path)
    archive = hot / "b" / "people" / "avatars"
    archive.mkdir(parents=True)
    (archive / "a.png").write_bytes(b"\x89PNG")
    avatars.connection.execute("update avatars set path = 'people/avatars/a.png'")
    told: list[events.Event] = []
    migrate_ledger(Secret(avatars.url), SystemClock())
    with PostgresLedger(
        LedgerSettings(url=Secret(avatars.url), release_grace_seconds=0), SystemClock()
    ) as ledger:
        summary = sweep_by_hand(
            avatars.source,
            ledger=ledger,
            hot=FileHotStore(hot),
            cold=FileColdStore(hot, "b", "people/"),
            observer=told.append,
            clock=SystemClock(),
        )
    assert (summary.archived, summary.released, summary.parked) == (0, 0, 1)
    assert (archive / "a.png").read_bytes() == b"\x89PNG"


class _Billed(FileColdStore):
    """A directory that says it is a store which bills what is read."""

    def location(self, key: ColdKey) -> ColdLocation:
        return replace(super().location(key), provider="s3")


def test_by_hand_too_a_budget_bounds_what_is_read(avatars: World, tmp_path: Path) -> None:
    hot, cold = _with_picture(avatars, tmp_path)
    for id_ in ("b", "c"):
        (hot / "b" / f"{id_}.png").write_bytes(b"\x89PNG")
        avatars.plant(id_, datetime(2020, 1, 1, tzinfo=UTC))
    migrate_ledger(Secret(avatars.url), SystemClock())
    budget = EgressBudget(limit_bytes=9, window_seconds=3_600)  # two are read back
    with PostgresLedger(LedgerSettings(url=Secret(avatars.url)), SystemClock()) as ledger:
        summary = sweep_by_hand(
            avatars.source,
            ledger=ledger,
            hot=FileHotStore(hot),
            cold=_Billed(cold, "avatars-archive", ""),
            observer=lambda _: None,
            clock=SystemClock(),
            plan=SweepPlan(batch_size=100, egress_budget=budget),
            evidence=Evidence.READBACK,
        )
        spent = ledger.spending.spent(budget)
    assert (summary.stopped, summary.archived, spent.spent_bytes) == ("budget", 2, 8)


def test_by_hand_too_a_source_that_takes_anything_is_refused(
    avatars: World, tmp_path: Path
) -> None:
    hot, cold = _with_picture(avatars, tmp_path)
    fence = "where avatars.bucket = receipt.hot_bucket and avatars.path = receipt.hot_path"
    careless = SOURCE_BLOCKS["avatars.sql"].replace(fence, "")
    parameters = SourceParameters(retention_jobs=0, retention_age=timedelta(days=30))
    source = SqlSource.load(careless, parameters=parameters)
    migrate_ledger(Secret(avatars.url), SystemClock())
    with (
        PostgresLedger(LedgerSettings(url=Secret(avatars.url)), SystemClock()) as ledger,
        pytest.raises(errors.SourceRefused, match="another path was taken"),
    ):
        sweep_by_hand(
            source,
            ledger=ledger,
            hot=FileHotStore(hot),
            cold=FileColdStore(cold, "avatars-archive", ""),
            observer=lambda _: None,
            clock=SystemClock(),
        )
    assert avatars.flipped_to("a") is None


# --- objects ------------------------------------------------------------------------------


def test_objects_of_ones_own(
    tmp_path: Path, set_environment: Callable[[Mapping[str, str]], None]
) -> None:
    (tmp_path / "hot").mkdir()
    (tmp_path / "archive" / "pages").mkdir(parents=True)
    large = tmp_path / "large.bin"
    large.write_bytes(bytes(9_000_000))
    set_environment(
        {
            "ARCHIVE_DATABASE_URL": "postgresql://localhost/not-asked",
            "ARCHIVE_HOT": (tmp_path / "hot").as_uri(),
            "ARCHIVE_PROVIDER": "file",
            "ARCHIVE_ENDPOINT": (tmp_path / "archive").as_uri(),
            "ARCHIVE_BUCKET": "pages",
        }
    )

    seen = run_block("objects", large_file=large, copy_of_it=tmp_path / "copy.bin")

    assert seen["head"].metadata == {"owner": "me"}
    assert seen["first"] == b"p "
    assert seen["keys"] == ["objects/a.css", "objects/large.bin"]
    assert str(seen["digest"]) == hashlib.sha256(b"p { }").hexdigest()
    assert seen["digest"].told_by == "bytes"
    assert seen["url"] is None
    assert (tmp_path / "copy.bin").read_bytes() == large.read_bytes()
    assert not (tmp_path / "archive" / "pages" / "objects" / "a.css").exists()


def test_objects_by_hand(tmp_path: Path) -> None:
    (tmp_path / "avatars-archive").mkdir()

    seen = run_block("objects-by-hand", cold_folder=tmp_path, logo=b"png")

    assert seen["stored"].size_bytes == 3
    with pytest.raises(errors.ReservedKey):
        seen["objects"].put("people/avatars/7.png", b"x")


def test_bytes_put_as_they_come(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body = bytes(range(256)) * 40_000  # more than one part
    (tmp_path / "films").mkdir()
    (tmp_path / "c.bin").write_bytes(body)

    run_block(
        "puts",
        archive=str(tmp_path),
        state=str(tmp_path / "state"),
        size=len(body),
        stream=io.BytesIO(body),
        first=body[:100],
        more_pieces=[body[100:200], body[200:]],
        head=body[: 9 << 20],
        path=tmp_path / "c.bin",
    )

    assert f"progress {len(body)} \nok {len(body)} \n" in capsys.readouterr().out
    for name in "abc":
        assert (tmp_path / "films" / "objects" / f"{name}.bin").read_bytes() == body
