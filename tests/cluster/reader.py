"""A reader of stores, as a worker is one: it looks at what is current, again and again.

It runs as a program of its own, in a pod: nothing of what a fault ends is needed for it. A snapshot
is read whole when it becomes current, and once more; from then on it is read again and again while
it stays current, in a part of the time only: others need the processor, too.
"""

from __future__ import annotations

import json
from pathlib import Path

from windsock.store import entries

DONE = "done"
"""This file next to a store ends the looks at the store."""

LOOP = """
import os, sys, time
def look(folder):
    rows = {}
    for place, folders, names in os.walk(folder, onerror=fail):
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        for name in names + links:
            path = os.path.join(place, name)
            relative = os.path.relpath(path, folder)
            if os.path.islink(path):
                rows[relative] = ("link", 0, 0, os.readlink(path))
                continue
            with open(path, "rb") as file:
                data = file.read()
                mode = os.fstat(file.fileno()).st_mode & 0o777
            state = content_digest()
            state.update(data)
            rows[relative] = ("file", mode, len(data), state.hexdigest())
    return identify(canonical(rows))
def fail(error):
    raise error
def tell(store, name, found):
    with open(sys.argv[1], "a") as out:
        out.write(json.dumps([store, name, found]) + chr(10))
times, due, current = {}, {}, {}
def visit(store):
    try:
        name = os.path.basename(os.readlink(store + "/current"))
    except OSError as error:
        if current.pop(store, None):
            tell(store, "nothing", "current is gone, after it was there: " + repr(error))
        return
    current[store] = name
    seen = times.get((store, name), 0)
    if seen >= 2 and time.monotonic() < due[store]:
        return
    started = time.monotonic()
    try:
        found = look(store + "/snapshots/" + name)
    except OSError as error:
        found = repr(error)
    ended = time.monotonic()
    due[store] = ended + IDLE * (ended - started)
    times[store, name] = seen + 1
    if seen < 1 or found != name:
        tell(store, name, found)
def stores():
    for root in sys.argv[2:]:
        for item in os.scandir(root):
            if not os.path.exists(item.path + "/DONE"):
                yield item.path + "/store"
        if os.path.isdir(root + "/snapshots"):
            yield root
while True:
    for store in list(stores()):
        visit(store)
    time.sleep(0.001)
"""


def program(*, idle: float) -> str:
    """The reader's source; its arguments are a file to write to, and folders with stores in them.

    A folder that is a store itself is looked at as well.

    Args:
        idle: How much longer it rests than it reads, of a snapshot that it knows.
    """
    source = Path(str(entries.__file__)).read_text(encoding="utf-8")
    return source + LOOP.replace("IDLE", repr(idle)).replace("DONE", DONE)


def seen_in(lines: str) -> list[list[str]]:
    """What a reader wrote: a store, the snapshot that was current, and the id of what it held."""
    rows: list[list[str]] = [json.loads(line) for line in lines.splitlines()]
    return rows


def wrong_in(rows: list[list[str]]) -> list[list[str]]:
    """Those that were not whole, or not there."""
    return [row for row in rows if row[1] != row[2]]
