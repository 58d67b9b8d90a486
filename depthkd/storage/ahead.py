"""Reads that are begun before their result is needed, by threads that hold nobody up."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Generic, TypeVar

Key = TypeVar("Key")
Result = TypeVar("Result")


class Ahead(Generic[Key, Result]):
    """Results by key, each made once, by one of a few threads.

    The threads belong to the process in which they began and end with it at once, whatever they do; a forked
    or pickled copy begins without any, and without results.

    Args:
        threads: how many things are made at a time.
    """

    def __init__(self, threads: int) -> None:
        self._count = threads
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._jobs: SimpleQueue[tuple[Future[Result], Callable[[], Result]]] = SimpleQueue()
        self._coming: dict[Key, Future[Result]] = {}
        self._started = 0

    def __reduce__(self) -> tuple[type["Ahead[Key, Result]"], tuple[int]]:
        return type(self), (self._count,)

    def begin(self, key: Key, make: Callable[[], Result]) -> None:
        """Have a result made, unless it is on its way."""
        if self._process != os.getpid():
            self._begin()
        if key in self._coming:
            return
        self._coming[key] = future = Future[Result]()
        self._jobs.put((future, make))
        if self._started < min(self._count, len(self._coming)):
            self._started += 1
            threading.Thread(target=self._work, args=(self._jobs,), daemon=True).start()

    def take(self, key: Key, make: Callable[[], Result]) -> Result:
        """The result, which is then forgotten; made now, where it was not begun.

        Raises:
            BaseException: what was raised when it was made.
        """
        future = self._coming.pop(key, None) if self._process == os.getpid() else None
        return make() if future is None else future.result()

    @staticmethod
    def _work(jobs: "SimpleQueue[tuple[Future[Result], Callable[[], Result]]]") -> None:
        while True:
            future, make = jobs.get()
            try:
                future.set_result(make())
            except BaseException as error:  # is raised where the result is taken
                future.set_exception(error)
