"""The database's thread: works are done in turn, together, and each for itself."""

import asyncio
import contextlib
import functools
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import structlog

from comfyworker.errors import InsufficientStorage, InternalError, InvalidSettings, NotFound
from comfyworker.service.database import Database, Transaction
from support.eventually import eventually
from support.power import SlowDisk, after_power_loss


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """Return a database with a table of names."""
    async with Database(tmp_path / "jobs.sqlite3") as database:
        await database.run(lambda transaction: transaction.execute("CREATE TABLE names (name TEXT UNIQUE)"))
        yield database


def add(name: str, *, fails: bool = False) -> Callable[[Transaction], str]:
    """Return work that adds a name, and may fail behind that."""

    def work(transaction: Transaction) -> str:
        transaction.execute("INSERT INTO names VALUES (?)", (name,))
        if fails:
            raise NotFound(name)
        return name

    return work


def names(transaction: Transaction) -> list[str]:
    """Return all names."""
    return [name for (name,) in transaction.execute("SELECT name FROM names ORDER BY name").fetchall()]


async def test_one_work_that_fails_does_not_touch_the_others(database: Database) -> None:
    """Works of many callers share a transaction; what failed is undone, the rest is there."""
    works = [add(name, fails=name == "c") for name in "abcd"]
    outcomes = await asyncio.gather(*map(database.run, works), return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["a", "b", "c", "d"]
    assert [type(outcome) for outcome in outcomes] == [str, str, NotFound, str]
    assert await database.run(names) == ["a", "b", "d"]


def modes_in(folder: Path) -> dict[str, int]:
    """Return who may do what with each file of a folder."""
    return {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}


async def test_nobody_else_can_read_the_files(database: Database, tmp_path: Path) -> None:
    """Requests are in them, also where the folder is open to all."""
    await database.run(add("a"))
    assert modes_in(tmp_path) == {"jobs.sqlite3": 0o600, "jobs.sqlite3-wal": 0o600}


def count_names(path: Path) -> int:
    """Return how many names a database has."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM names").fetchone()[0])


async def test_what_may_go_with_the_power_waits_for_no_disk(
    database: Database, slow_disk: SlowDisk, tmp_path: Path
) -> None:
    """A kill cannot undo it, a loss of power can; who must not lose what was written is told when none can."""
    await database.run(add("a"))
    path, log = tmp_path / "jobs.sqlite3", tmp_path / "jobs.sqlite3-wal"
    durable_bytes, heard = log.stat().st_size, list[object]()
    slow_disk.goes_on.clear()
    assert await database.run(add("b"), may_go_with_power=True) == "b"
    waits = asyncio.ensure_future(database.run(add("c"), then=heard.append))
    await eventually(lambda: heard == ["c"])
    assert await database.read(names) == ["a", "b", "c"]
    assert not waits.done()
    assert count_names(after_power_loss(path, tmp_path / "kill", log.stat().st_size)) == 3
    assert count_names(after_power_loss(path, tmp_path / "power", durable_bytes)) == 1
    slow_disk.goes_on.set()
    assert await waits == "c"


async def test_what_nobody_waits_for_is_forced_to_the_disk_at_once(database: Database, slow_disk: SlowDisk) -> None:
    """And what only reads asks the disk for nothing."""
    await database.run(names)
    assert slow_disk.count == 0
    await database.run(add("a"), may_go_with_power=True)
    await eventually(lambda: slow_disk.count == 1)


async def test_a_busy_disk_takes_many_commits_at_once(database: Database, slow_disk: SlowDisk) -> None:
    """What is written while it is busy shares the next time."""
    slow_disk.goes_on.clear()
    slow_disk.is_asked.clear()
    first = asyncio.ensure_future(database.run(add("first")))
    await eventually(slow_disk.is_asked.is_set)
    heard: list[object] = []
    others = []
    for number in range(20):
        others.append(asyncio.ensure_future(database.run(add(str(number)), then=heard.append)))
        await eventually(functools.partial(lambda count: len(heard) == count, number + 1))
    slow_disk.goes_on.set()
    await asyncio.gather(first, *others)
    assert slow_disk.count == 2


async def test_a_disk_that_fails_is_told_until_all_is_written_anew(
    database: Database, slow_disk: SlowDisk, tmp_path: Path
) -> None:
    """Linux tells of a failure once: what was committed before is brought to the disk by another way."""
    log = tmp_path / "jobs.sqlite3-wal"
    slow_disk.fails = True
    with pytest.raises(InsufficientStorage):
        await database.run(add("a"))
    slow_disk.fails = False
    await database.run(add("b"))
    # The log begins anew: "a" is in the database itself, which SQLite has forced to the disk.
    assert count_names(after_power_loss(tmp_path / "jobs.sqlite3", tmp_path / "power", 0)) == 1
    assert count_names(after_power_loss(tmp_path / "jobs.sqlite3", tmp_path / "kill", log.stat().st_size)) == 2


async def test_files_go_when_no_loss_of_power_brings_their_records_back(
    database: Database, slow_disk: SlowDisk
) -> None:
    """Where the disk fails they stay: the next start removes what is nobody's."""
    done: list[str] = []

    def work(transaction: Transaction) -> None:
        transaction.execute("INSERT INTO names VALUES ('a')")
        transaction.after_commit(lambda: done.append(f"synced {slow_disk.count} times"))

    await database.run(work)
    assert done == ["synced 1 times"]
    slow_disk.fails = True
    with pytest.raises(InsufficientStorage):
        await database.run(lambda transaction: transaction.after_commit(lambda: done.append("failed")))
    assert done == ["synced 1 times"]


async def test_works_are_done_in_the_order_of_the_calls(database: Database) -> None:
    """Who reads behind a write that nobody waited for sees it."""
    database.post(lambda transaction: transaction.execute("INSERT INTO names VALUES ('posted')"))
    assert await database.run(names) == ["posted"]


async def test_a_caller_who_goes_away_stops_nothing(database: Database) -> None:
    """What was asked for is done, and who is to hear of it does."""
    heard: list[object] = []
    asked = asyncio.ensure_future(database.run(add("a"), then=heard.append))
    await asyncio.sleep(0)  # Lets it ask.
    asked.cancel()
    assert await database.run(names) == ["a"]
    assert heard == ["a"]
    assert asked.cancelled()


async def test_a_fault_in_who_hears_is_for_the_caller_alone(database: Database) -> None:
    """Others in the same transaction get their answers."""

    def broken(_: object) -> None:
        message = "oh"
        raise LookupError(message)

    with structlog.testing.capture_logs() as events:
        outcomes = await asyncio.gather(database.run(names, then=broken), database.run(names), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [LookupError, list]
    assert [event["event"] for event in events] == ["service.not_told"]


async def test_what_is_done_afterwards_is_done_only_if_the_work_holds(database: Database) -> None:
    """Files go when the record of them is gone, not before."""
    done: list[str] = []

    def work(name: str, *, fails: bool) -> Callable[[Transaction], None]:
        def run(transaction: Transaction) -> None:
            transaction.after_commit(lambda: done.append(name))
            if fails:
                raise NotFound(name)

        return run

    await asyncio.gather(
        *(database.run(work(name, fails=name == "b")) for name in "abc"),
        return_exceptions=True,
    )
    assert done == ["a", "c"]


async def test_a_failure_of_sqlite_is_an_internal_error(database: Database) -> None:
    """In our words, with SQLite's reason."""
    with pytest.raises(InternalError, match="no such table"):
        await database.run(lambda transaction: transaction.execute("SELECT * FROM absent"))


async def test_a_closed_database_says_so(tmp_path: Path) -> None:
    """Nobody waits for ever."""
    async with Database(tmp_path / "jobs.sqlite3") as database:
        pass
    with pytest.raises(InternalError, match="closed"):
        await database.run(names)


def newer(path: Path) -> None:
    """Write a database of a version that is still to come."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()


def garbage(path: Path) -> None:
    """Write no database."""
    path.write_bytes(b"no database at all " * 1000)


def folder(path: Path) -> None:
    """Have a folder in its place."""
    path.mkdir()


@pytest.mark.parametrize("make", [newer, garbage, folder])
async def test_a_file_that_is_no_database_of_ours_is_told(tmp_path: Path, make: object) -> None:
    """Before the server serves, and without the path."""
    path = tmp_path / "jobs.sqlite3"
    assert callable(make)
    make(path)
    with pytest.raises(InvalidSettings) as caught:
        async with Database(path):
            pass
    assert caught.value.hint
    assert str(tmp_path) not in f"{caught.value.message} {caught.value.hint}"
