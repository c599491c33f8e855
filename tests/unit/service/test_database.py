"""The database's thread: works are done in turn, together, and each for itself."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import structlog

from comfyworker.errors import InternalError, InvalidSettings, NotFound
from comfyworker.service.database import Database, Transaction


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


async def test_what_may_go_with_the_power_waits_for_no_disk(database: Database) -> None:
    """Together with what must stay it does; each commit says so anew."""

    def waits(transaction: Transaction) -> int:
        return int(transaction.execute("PRAGMA synchronous").fetchone()[0])

    full, normal = 2, 1
    assert await database.run(waits) == full
    assert await database.run(waits, may_go_with_power=True) == normal
    together = (database.run(add("a"), may_go_with_power=True), database.run(waits), database.run(waits))
    _, *told = await asyncio.gather(*together)
    assert told == [full, full]


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
