"""Stores for processed events."""

import re
import threading
import time
from collections import OrderedDict
from typing import Any, Callable, Protocol

WEEK = 7 * 24 * 3600


class MemoryStore:
    """A store in memory, for ttl seconds and at most the newest max_ids events.

    Safe for use by several threads of one process.
    """

    def __init__(self, *, ttl: float = WEEK, max_ids: int = 1_000_000, now: Callable[[], float] = time.time) -> None:
        self._ttl, self._max, self._now = ttl, max_ids, now
        self._ids: "OrderedDict[str, float]" = OrderedDict()  # the oldest first
        self._lock = threading.Lock()

    def processed(self, id: str) -> bool:
        with self._lock:
            self._forget(0)
            return id in self._ids

    def mark_processed(self, id: str) -> None:
        with self._lock:
            if id not in self._ids:
                self._forget(1)
                self._ids[id] = self._now()

    def __len__(self) -> int:
        with self._lock:
            return len(self._ids)

    def _forget(self, more: int) -> None:
        old = self._now() - self._ttl
        while self._ids:
            id, at = next(iter(self._ids.items()))
            if at >= old and len(self._ids) + more <= self._max:
                return
            del self._ids[id]


class SQLStore:
    """A store in a table that all processes share, with any DB-API 2.0 driver (PEP 249).

    connect returns a connection that is used for one call and closed. dialect is "sqlite", "postgres" or "mysql".
    """

    def __init__(
        self,
        connect: Callable[[], Any],
        *,
        dialect: str = "postgres",
        table: str = "processed_events",
        now: Callable[[], float] = time.time,
    ) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_.]+", table):
            raise ValueError(f"{table!r} is not a valid table name")
        if dialect not in ("sqlite", "postgres", "mysql"):
            raise ValueError(f"unknown dialect {dialect!r}; use sqlite, postgres or mysql")
        mark = "?" if dialect == "sqlite" else "%s"
        insert, ignore = ("INSERT IGNORE INTO", "") if dialect == "mysql" else ("INSERT INTO", " ON CONFLICT (id) DO NOTHING")
        self._connect, self._now = connect, now
        self._create = (
            f"CREATE TABLE IF NOT EXISTS {table} (id VARCHAR(128) NOT NULL PRIMARY KEY, processed_at BIGINT NOT NULL)"
        )
        self._look = f"SELECT 1 FROM {table} WHERE id = {mark}"
        self._mark = f"{insert} {table} (id, processed_at) VALUES ({mark}, {mark}){ignore}"
        self._delete = f"DELETE FROM {table} WHERE processed_at < {mark}"

    def _run(self, sql: str, *args: Any) -> Any:
        connection = self._connect()
        try:
            cursor = connection.cursor()
            cursor.execute(sql, args)
            row = cursor.fetchone() if sql is self._look else None
            connection.commit()
            return row
        finally:
            connection.close()

    def create_table(self) -> None:
        """Creates the table if it does not exist."""
        self._run(self._create)

    def processed(self, id: str) -> bool:
        return self._run(self._look, id) is not None

    def mark_processed(self, id: str) -> None:
        self._run(self._mark, id, int(self._now()))

    def forget(self, before: float) -> None:
        """Removes events that were processed before a time in Unix seconds."""
        self._run(self._delete, int(before))


class KeyValueClient(Protocol):
    """The part of a client that KeyValueStore uses; redis-py works unchanged."""

    def exists(self, key: str) -> Any: ...

    def set(self, key: str, value: str, *, ex: int) -> Any: ...


class KeyValueStore:
    """A store with expiring keys, such as Redis."""

    def __init__(self, client: KeyValueClient, *, prefix: str = "webhook:", ttl: int = WEEK) -> None:
        self._client, self._prefix, self._ttl = client, prefix, ttl

    def processed(self, id: str) -> bool:
        return bool(self._client.exists(self._prefix + id))

    def mark_processed(self, id: str) -> None:
        self._client.set(self._prefix + id, "1", ex=self._ttl)
