"""The tables of the job service."""

from __future__ import annotations

import sqlite3

from comfyworker.errors import InvalidSettings

_VERSION = 1

_TABLES = """
CREATE TABLE jobs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    id TEXT NOT NULL,
    api TEXT NOT NULL,
    dialect TEXT NOT NULL,
    status TEXT NOT NULL,
    priority INTEGER NOT NULL,
    created_at REAL NOT NULL,
    queue_until REAL NOT NULL,
    started_at REAL,
    completed_at REAL,
    expires_at REAL,
    attempts INTEGER NOT NULL DEFAULT 0,
    wants_inline INTEGER NOT NULL,
    has_secrets INTEGER NOT NULL,
    idempotency_key TEXT,
    fingerprint TEXT NOT NULL,
    meta TEXT NOT NULL,
    progress BLOB,
    result BLOB,
    events BLOB,
    last_event_id INTEGER NOT NULL DEFAULT 0,
    UNIQUE (owner, id)
);
CREATE UNIQUE INDEX jobs_by_idempotency_key ON jobs (owner, api, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX jobs_by_status ON jobs (status);
CREATE INDEX jobs_by_expiry ON jobs (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX jobs_by_owner ON jobs (owner, seq);

CREATE TABLE payloads (
    key TEXT PRIMARY KEY REFERENCES jobs (key) ON DELETE CASCADE,
    request BLOB,
    body BLOB
) WITHOUT ROWID;

CREATE TABLE assets (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    hash TEXT NOT NULL,
    content_type TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    created_at REAL NOT NULL,
    expires_at REAL,
    file TEXT NOT NULL,
    job_key TEXT REFERENCES jobs (key) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX assets_by_hash ON assets (owner, hash);
CREATE INDEX assets_by_file ON assets (file);
CREATE INDEX assets_by_job ON assets (job_key);
CREATE INDEX assets_by_expiry ON assets (expires_at) WHERE expires_at IS NOT NULL;
"""


def prepare_schema(connection: sqlite3.Connection) -> None:
    """Make the tables where there are none.

    Raises:
        InvalidSettings: a newer worker has written the file.
    """
    [version] = connection.execute("PRAGMA user_version").fetchone()
    if version > _VERSION:
        raise InvalidSettings(
            "a newer comfyworker has written the database jobs.sqlite3 in STATE_DIR",
            hint="Start that version again, or give this one another STATE_DIR.",
        )
    if version < _VERSION:
        connection.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version = {_VERSION}; COMMIT;")
