import pathlib
import sqlite3
import tempfile
import threading
import unittest

from posthaste_webhook import KeyValueStore, MemoryStore, SQLStore


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Redis:
    """Keys that expire, with the calls of redis-py."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.ends = clock, {}

    def exists(self, key: str) -> int:
        return int(self.ends.get(key, 0) > self.clock())

    def set(self, key: str, value: str, *, ex: int) -> None:
        self.ends[key] = self.clock() + ex


class Stores(unittest.TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = str(pathlib.Path(folder.name) / "seen.db")

    def sql(self) -> SQLStore:
        store = SQLStore(lambda: sqlite3.connect(self.file), dialect="sqlite", now=self.clock)
        store.create_table()
        store.create_table()
        return store

    def test_all(self) -> None:
        for store in (MemoryStore(ttl=60, now=self.clock), self.sql(), KeyValueStore(Redis(self.clock), ttl=60)):
            with self.subTest(type(store).__name__):
                self.assertFalse(store.processed("evt_1"))
                store.mark_processed("evt_1")
                store.mark_processed("evt_1")
                self.assertTrue(store.processed("evt_1"))
                self.assertFalse(store.processed("evt_2"))
                self.assertFalse(store.processed("'; DROP TABLE processed_events; --"))
                self.clock.now += 61
                if isinstance(store, SQLStore):
                    store.forget(self.clock.now - 60)
                self.assertFalse(store.processed("evt_1"))

    def test_several_threads(self) -> None:
        for store in (MemoryStore(), self.sql()):
            failed = []

            def work(n: int) -> None:
                try:
                    for i in range(20):
                        store.mark_processed(f"evt_{i}")
                        if not store.processed(f"evt_{i}"):
                            failed.append((n, i))
                except Exception as err:
                    failed.append(err)

            threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            self.assertEqual(failed, [], type(store).__name__)

    def test_memory_is_bounded(self) -> None:
        store = MemoryStore(max_ids=3)
        for i in range(10):
            store.mark_processed(str(i))
        self.assertEqual(len(store), 3)
        self.assertEqual([store.processed(i) for i in "679"], [False, True, True])

    def test_odd_tables_and_dialects(self) -> None:
        for table in ("", "a b", "a;b", 'a"'):
            with self.assertRaises(ValueError):
                SQLStore(lambda: None, table=table)
        with self.assertRaises(ValueError):
            SQLStore(lambda: None, dialect="oracle")


if __name__ == "__main__":
    unittest.main()
