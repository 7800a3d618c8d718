"""What happens to a DAG folder in bench.reload, and how long Airflow takes to show it.

The same files, saves and looks for every system. A save is what an editor does: a temporary file,
renamed over the old one; the sample begins when that is done.
"""

from __future__ import annotations

import itertools
import random
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from windsock.errors import DeadlineExceeded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from dev.benchmarks.environment import Terminal
    from dev.benchmarks.observer import Observer

Samples = tuple[tuple[float, ...], tuple[str, ...]]
"""What was taken, and why others are missing."""

COARSE_SECONDS = 0.25
"""How often a look is taken in the background, where minutes are waited for."""

HELPER_POLL_SECONDS = 0.02
"""How often DAGs that import the helper are looked at: the parses need both cores for longer."""

USERS = 20
"""How many DAG files import the helper module."""

EDIT = "edit → new structure"
NEW = "new file → listed"
DELETED = "deleted file → unlisted"
BROKEN = "broken file → traceback"
HELPER = f"helper edited → its {USERS} DAGs"
RUN_1 = "trigger → 1-task run succeeded"
RUN_5 = "trigger → 5-task run succeeded"

PLAIN_DAG = """\
from airflow.sdk import dag, task


@dag(schedule=None)
def {name}():
    @task
    def {task}():
        return 1

    {task}()


{name}()
"""

BROKEN_LINE = PLAIN_DAG.count("\n") + 1
"""Where a broken file breaks: the line after its last one."""

USING_DAG = """\
from airflow.sdk import dag, task

from bench_helper import TASK


@dag(schedule=None)
def {name}():
    @task(task_id=TASK)
    def work():
        return 1

    work()


{name}()
"""

CHAIN_DAG = """\
from airflow.sdk import chain, dag, task


@dag(schedule=None)
def {name}():
    @task
    def work():
        return 1

    chain(*[work.override(task_id=f"work_{{number}}")() for number in range({length})])


{name}()
"""


class Folder:
    """A DAG folder that is edited.

    Args:
        path: Of it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._numbers = itertools.count(1)

    def fill(self) -> None:
        """Write the files that all events need."""
        self.path.mkdir(parents=True, exist_ok=True)
        for name in ("bench_edit", "bench_broken"):
            self.save_dag(name)
        self.save("bench_helper.py", 'TASK = "at_first"\n')
        for number in range(USERS):
            name = user(number)
            self.save(f"{name}.py", USING_DAG.format(name=name))
        for length in (1, 5):
            name = f"bench_run_{length}"
            self.save(f"{name}.py", CHAIN_DAG.format(name=name, length=length))

    def dag_ids(self) -> list[str]:
        """What `fill` makes of them."""
        users = [user(number) for number in range(USERS)]
        return ["bench_edit", "bench_broken", *users, "bench_run_1", "bench_run_5"]

    def fresh(self, word: str) -> str:
        """A name that was not there before."""
        return f"{word}_{next(self._numbers)}"

    def save(self, name: str, text: str) -> None:
        """Write a file whole, as an editor does; hidden until it is."""
        hidden = self.path / f".{name}.new"
        hidden.write_text(text, encoding="utf-8")
        hidden.replace(self.path / name)

    def save_dag(self, name: str, *, task: str = "at_first") -> None:
        """Write a DAG of one task."""
        self.save(f"{name}.py", PLAIN_DAG.format(name=name, task=task))

    def delete(self, name: str) -> None:
        """Delete a DAG file."""
        (self.path / f"{name}.py").unlink()


def user(number: int) -> str:
    """The DAG id of one that imports the helper."""
    return f"bench_user_{number:02}"


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """Seconds after which an event counts as not seen."""

    edit: float = 30.0
    listing: float = 30.0
    run: float = 60.0


class Events:
    """The events on one system.

    Args:
        folder: Of its DAGs.
        observer: Of its API.
        timeouts: How patient to be.
    """

    def __init__(self, folder: Folder, observer: Observer, timeouts: Timeouts) -> None:
        self._folder = folder
        self._observer = observer
        self._timeouts = timeouts

    def edit(self) -> float:
        """A DAG gets another task."""
        task = self._folder.fresh("task")
        self._folder.save_dag("bench_edit", task=task)
        return self._observer.seconds_until(
            lambda: self._observer.has_task("bench_edit", task),
            what=EDIT,
            timeout=self._timeouts.edit,
        )

    def new(self, name: str, *, observer: Observer | None = None, interval: float = 0.01) -> float:
        """A DAG file comes."""
        looks = observer or self._observer
        self._folder.save_dag(name)
        return looks.seconds_until(
            lambda: looks.lists(name),
            what=NEW,
            timeout=self._timeouts.listing,
            interval=interval,
        )

    def deleted(
        self, name: str, *, observer: Observer | None = None, interval: float = 0.01
    ) -> float:
        """A DAG file goes."""
        looks = observer or self._observer
        self._folder.delete(name)
        return looks.seconds_until(
            lambda: not looks.lists(name),
            what=DELETED,
            timeout=self._timeouts.listing,
            interval=interval,
        )

    def broken(self) -> float:
        """A DAG file stops importing: until the API has the traceback. It is repaired then."""
        word = self._break()
        try:
            return self._observer.seconds_until(
                lambda: self._observer.has_import_error("bench_broken.py", word),
                what=BROKEN,
                timeout=self._timeouts.edit,
            )
        finally:
            self._repair()

    def broken_on(self, terminal: Terminal) -> float:
        """The same, until a terminal shows the file, the line and the error."""
        since = time.monotonic()
        word = self._break()
        line = rf"bench_broken\.py:{BROKEN_LINE} .*NameError.*\b{word}\b"
        try:
            return terminal.seconds_until(line, since=since, timeout=self._timeouts.edit)
        finally:
            self._repair()

    def _break(self) -> str:
        word = self._folder.fresh("missing")
        text = PLAIN_DAG.format(name="bench_broken", task="at_first")
        self._folder.save("bench_broken.py", f"{text}{word}()\n")
        return word

    def _repair(self) -> None:
        """Let the broken file import again, and wait until Airflow knows."""
        task = self._folder.fresh("task")
        self._folder.save_dag("bench_broken", task=task)
        self._observer.seconds_until(
            lambda: self._observer.has_task("bench_broken", task),
            what="repaired file → new structure",
            timeout=self._timeouts.edit,
            interval=0.1,
        )

    def helper(self) -> float:
        """A module changes that many DAGs import: until the last of them has the new structure."""
        task = self._folder.fresh("task")
        waiting = [user(number) for number in range(USERS)]
        self._folder.save("bench_helper.py", f'TASK = "{task}"\n')

        def all_changed() -> bool:
            while waiting and self._observer.has_task(waiting[0], task):
                del waiting[0]
            # The next look begins with another one: they are not parsed in the order of names.
            waiting.extend(waiting[:1])
            del waiting[:1]
            return not waiting

        return self._observer.seconds_until(
            all_changed, what=HELPER, timeout=self._timeouts.edit, interval=HELPER_POLL_SECONDS
        )

    def run(self, length: int) -> float:
        """A DAG of so many tasks, one after the other, is triggered."""
        return self._observer.seconds_of_run(f"bench_run_{length}", timeout=self._timeouts.run)


def repeat(event: Callable[[], float], *, times: int, between: Callable[[], None]) -> Samples:
    """Take samples of an event; after two failures it is given up.

    Args:
        event: Returns its seconds.
        times: How often.
        between: Called before each: lets the system come to rest.
    """
    samples: list[float] = []
    failures: list[str] = []
    for _ in range(times):
        between()
        try:
            samples.append(event())
        except DeadlineExceeded as error:
            failures.append(error.message)
            if len(failures) > 1:
                break
    return tuple(samples), tuple(failures)


def _collect(futures: list[Future[float]]) -> Samples:
    samples: list[float] = []
    failures: list[str] = []
    for future in futures:
        try:
            samples.append(future.result())
        except DeadlineExceeded as error:
            failures.append(error.message)
    return tuple(samples), tuple(failures)


def gone(number: int) -> str:
    """The DAG id of one that `over_a_refresh` deletes."""
    return f"bench_gone_{number}"


@contextmanager
def over_a_refresh(
    events: Events, observer: Observer, *, samples: int, period: float
) -> Iterator[Callable[[], dict[str, Samples]]]:
    """New and deleted files in the background, where Airflow lists its folder every few minutes.

    The saves are spread over `period`, one at a random moment in each part, as a person's would
    be: all of them are then seen at the same listing.

    Args:
        events: Of the system; it lists the DAGs `gone(0)`, `gone(1)` … already.
        observer: Of the system.
        samples: Of each kind.
        period: Seconds over which to spread the saves.

    Yields:
        Waits for the end, and returns `NEW` and `DELETED` → samples.
    """

    def later(event: Callable[..., float], name: str, number: int) -> float:
        # Random so that it falls anywhere in Airflow's cycle; nobody could gain by guessing it.
        moment = (number + random.random()) / samples * period  # noqa: S311
        with observer.another() as looks:
            looks.pause(moment)
            return event(name, observer=looks, interval=COARSE_SECONDS)

    with ThreadPoolExecutor(max_workers=2 * samples) as pool:
        numbers = range(samples)
        pending = {
            NEW: [pool.submit(later, events.new, f"bench_came_{n}", n) for n in numbers],
            DELETED: [pool.submit(later, events.deleted, gone(n), n) for n in numbers],
        }
        try:
            yield lambda: {what: _collect(futures) for what, futures in pending.items()}
        except BaseException:
            observer.interrupt()
            raise


def random_pause(observer: Observer, *, longest: float) -> None:
    """So that the samples fall on all phases of a system's own cycle."""
    observer.pause(random.uniform(0, longest))  # noqa: S311 - as above
