"""Finished things kept by what was asked for, within a bound of bytes. Knows no screen."""

import threading
from collections import OrderedDict
from collections.abc import Hashable


class Store:
    """Packed runs by their settings; the least recently used go when the bound is passed."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._kept: OrderedDict[Hashable, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, key: Hashable) -> bytes | None:
        """What is kept under a key, or None."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def keep(self, key: Hashable, content: bytes) -> None:
        """Keep content, dropping what was used longest ago; the newest is kept at any size."""
        with self._lock:
            self._kept[key] = content
            self._kept.move_to_end(key)
            while len(self._kept) > 1 and sum(map(len, self._kept.values())) > self._limit_bytes:
                self._kept.popitem(last=False)
