import re
from pathlib import Path

import apsw
import pytest

from sttd.core.jobs import FINAL, TRANSITIONS, JobState
from sttd.supervisor.ledger import statements
from sttd.supervisor.ledger.opening import MIGRATIONS
from sttd.supervisor.ledger.statements import SQL, load

PACKAGE = Path(statements.__file__).parent


def test_blocks_are_found_by_name_and_comments_inside_them_are_kept() -> None:
    text = (
        "-- about the file\n\n-- one: the first\nSELECT 1;\n-- two: the second\n-- why\nSELECT 2;\n"
    )
    assert dict(load(text)) == {"one": "SELECT 1;", "two": "-- why\nSELECT 2;"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("-- one: x\nSELECT 1;\n-- one: y\nSELECT 2;\n", "'one' is given twice"),
        ("-- one: x\n-- two: y\nSELECT 2;\n", "'one' has no statement"),
    ],
)
def test_a_careless_block_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        load(text)


def test_every_statement_is_used_and_every_statement_used_exists() -> None:
    code = "\n".join(path.read_text() for path in PACKAGE.glob("*.py"))
    asked = set(re.findall(r"(?:run|rows?|script)\(\s*\"(\w+)\"", code))
    asked |= set(re.findall(r"_pragma\(store, \"(\w+)\"\)", code))
    asked |= set(re.findall(r"\(\"(\w+)\", ?(?:\{|values|msgspec)", code))  # notes
    asked |= set(re.findall(r"_(?:seq|edge)\(store, \"(\w+)\"", code))
    asked |= {f"jobs{which}{order}" for which in ("", "_open", "_ended") for order in ("", "_up")}
    asked |= set(MIGRATIONS)
    asked |= {
        f"{which}_events_{scope}"
        for which in ("first", "last")
        for scope in re.findall(r"scope = \"(\w+)\"", code)
    }
    assert asked == set(SQL)


def schema() -> apsw.Connection:
    connection = apsw.Connection(":memory:")
    for migration in MIGRATIONS:
        connection.execute(SQL[migration])
    return connection


def insert(connection: apsw.Connection, state: str) -> None:
    """A row in `state` as the CHECKs want it."""
    connection.execute(
        """INSERT INTO job (id, kind, name, signature, options, priority, size, created_ns, state,
             token, not_before_ns, delay_ns, finished_ns, error_code, out_name)
           VALUES ('x', 'inbox', x'61', '{}', '{}', 0, 1, 1, :state,
             iif(:state = 'running', 't', NULL), iif(:state = 'deferred', 1, NULL),
             iif(:state = 'deferred', 1, NULL), iif(:final, 1, NULL),
             iif(:state = 'failed', 'c', NULL), iif(:state = 'withdrawn', NULL, x'61'))""",
        {"state": state, "final": state in FINAL},
    )


def move(connection: apsw.Connection, state: str) -> None:
    connection.execute(
        """UPDATE job SET state = :state, token = iif(:state = 'running', 't', NULL),
             not_before_ns = iif(:state = 'deferred', 1, NULL),
             delay_ns = iif(:state = 'deferred', 1, NULL), finished_ns = iif(:final, 1, NULL),
             error_code = iif(:state = 'failed', 'c', NULL),
             out_name = iif(:state = 'withdrawn', NULL, x'61')""",
        {"state": state, "final": state in FINAL},
    )


@pytest.mark.parametrize("old", JobState)
@pytest.mark.parametrize("new", JobState)
def test_the_file_allows_exactly_the_moves_of_the_core(old: JobState, new: JobState) -> None:
    connection = schema()
    insert(connection, old)
    if new in TRANSITIONS[old]:
        move(connection, new)
        assert connection.execute("SELECT state FROM job").get == new
        tally = dict(connection.execute("SELECT state, jobs FROM tally WHERE jobs > 0"))
        assert tally == {new.value: 1}
    else:
        with pytest.raises(apsw.ConstraintError, match="cannot move between these states"):
            move(connection, new)
    connection.close()


def test_the_file_knows_exactly_the_states_of_the_core() -> None:
    connection = schema()
    assert {row[0] for row in connection.execute("SELECT state FROM tally")} == set(JobState)
    with pytest.raises(apsw.ConstraintError, match="CHECK"):
        insert(connection, "pondering")
    connection.close()


# what each state must and must not have
@pytest.mark.parametrize(
    ("state", "wrong"),
    [
        ("queued", "token = 't'"),
        ("running", "token = NULL"),
        ("queued", "not_before_ns = 1"),
        ("deferred", "not_before_ns = NULL"),
        ("deferred", "delay_ns = NULL"),
        ("queued", "finished_ns = 1"),
        ("succeeded", "finished_ns = NULL"),
        ("failed", "error_code = NULL"),
        ("cancelled", "error_code = 'c'"),
        ("queued", "disposed = 1"),
        ("queued", "out_name = NULL"),
        ("withdrawn", "out_name = x'61'"),
        ("queued", "priority = 'high'"),
    ],
)
def test_a_row_that_contradicts_its_state_is_refused(state: str, wrong: str) -> None:
    connection = schema()
    insert(connection, state)
    with pytest.raises(apsw.ConstraintError):
        connection.execute(f"UPDATE job SET {wrong}")
    connection.close()


# a million rows must not slow down what a job waits for
@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("claim", "job_open"),
        ("wake", "job_wake"),
        ("next_wake", "job_wake"),
        ("rebase_deferred", "job_wake"),
        ("oldest_queued", "job_queued"),
        ("jobs_ended", "job_ended"),
        ("jobs", "INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        ("jobs_up", "INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        ("jobs_ended", "job_ended (state=? AND rowid>? AND rowid<?)"),
        ("jobs_ended_up", "job_ended (state=? AND rowid>? AND rowid<?)"),
        ("jobs_open", "job_open"),
        ("jobs_open_up", "job_open"),
        ("page_start", "sqlite_autoindex_job_1 (id>?)"),
        ("page_end", "sqlite_autoindex_job_1 (id<?)"),
        ("id_after", "INTEGER PRIMARY KEY (rowid>?)"),
        ("id_before", "INTEGER PRIMARY KEY (rowid<?)"),
        ("all_open", "job_open"),
        ("undisposed", "job_open"),
        ("interrupted", "job_open"),
        ("prune_jobs", "job_past"),
        ("prune_stems", "stem_used"),
        ("prune_events", "event_time"),
        ("prune_lives", "worker_life_ended"),
        ("first_events_by_name", "event_name"),
        ("first_events_by_job", "event_job"),
        ("first_events_by_worker", "event_worker"),
        ("last_events_by_name", "event_name"),
        ("timeline", "event_job"),
        ("lives_of", "worker_life_worker"),
        ("job_by_key", "job_key"),
    ],
)
def test_a_statement_is_served_by_its_index(name: str, index: str) -> None:
    connection = schema()
    values = dict.fromkeys(re.findall(r":(\w+)", SQL[name]), 1)
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {SQL[name]}", values)]
    assert any(index in step for step in plan), plan
    assert not any(step == "SCAN job" for step in plan), plan
    connection.close()


# the queue alone is sorted for a listing, and it has a limit
@pytest.mark.parametrize(
    "name", ["claim", "jobs", "jobs_up", "jobs_ended", "jobs_ended_up", "page_start", "page_end"]
)
def test_neither_claiming_nor_a_page_of_a_listing_needs_sorting(name: str) -> None:
    connection = schema()
    values = dict.fromkeys(re.findall(r":(\w+)", SQL[name]), 1)
    plan = connection.execute(f"EXPLAIN QUERY PLAN {SQL[name]}", values)
    assert not any("TEMP B-TREE" in row[3] for row in plan)
    connection.close()
