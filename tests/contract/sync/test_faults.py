"""Cuts, kills, full disks: afterwards the store equals the folder, and was never half."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.contract.sync.rig import (
    CutTransport,
    MemoryTransport,
    Rig,
    SlowTransport,
    content_of,
    doomed_transport,
    tree_id_of,
    wait_until,
)
from tests.contract.sync.test_processor import listening
from windsock import events
from windsock.errors import WindsockError
from windsock.store.agent import Agent
from windsock.store.batch import Batch
from windsock.store.entries import Refusal, Row, canonical, identify
from windsock.store.store import Store
from windsock.sync import bootstrap, protocol, upload
from windsock.sync import folders as folders_module
from windsock.sync import scan as scan_module
from windsock.sync.rules import Rules
from windsock.sync.scan import Scan, scan
from windsock.sync.transport import process_transport

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from windsock.store.wire import Frame
    from windsock.sync.transport import Transport


def seen_by_a_reader(store: Path) -> str | None:
    """What somebody who opens `current` now finds, by its content; None if nothing is there."""
    try:
        name = (store / "current").readlink().name
    except FileNotFoundError:
        return None
    found = tree_id_of(store / "snapshots" / name)
    assert found == name, "a snapshot that is current is not whole"
    return found


@pytest.mark.parametrize("count", range(32))
def test_an_agent_killed_at_any_moment_leaves_the_store_whole(tmp_path: Path, count: int) -> None:
    rig = Rig(tmp_path, "process")
    rig.write("a.py", "one")
    rig.write("sub/b.py", "two")
    (rig.root / "link").symlink_to("a.py")
    with rig.running() as session:
        first = session.request_scan()
    rig.write("a.py", "changed")
    (rig.root / "sub/b.py").unlink()
    rig.write("new/c.py", "three")
    second = tree_id_of(rig.root)
    doomed = iter([lambda: doomed_transport(rig.options, count=count)])

    def connect() -> Transport:
        transport = next(doomed, rig.connect)()
        rig.transports.append(transport)
        return transport

    # What is current is told from outside while the agent dies and comes back.
    seen: set[str | None] = set()
    stop = threading.Event()

    def read() -> None:
        while not stop.wait(0.001):
            seen.add(seen_by_a_reader(rig.store))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        with rig.running(connect=connect) as session:
            assert session.request_scan() == second
    finally:
        stop.set()
        reader.join()
    rig.assert_equal()
    assert seen <= {first, second}
    with rig.running() as session:  # the next start sweeps, even if the kill came last of all
        session.request_scan()
    rig.assert_equal()
    assert not list((rig.store / "incoming").iterdir())
    manifests = {path.stem for path in (rig.store / "manifests").iterdir()}
    assert manifests == {path.name for path in (rig.store / "snapshots").iterdir()}


def test_kill_9_of_the_agent_is_survived(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "process")
    rig.write("a.py", "one")
    with rig.running() as session:
        session.request_scan()
        os.kill(rig.of(events.Connected)[0].pid, signal.SIGKILL)
        rig.write("a.py", "two")
        session.request_scan()
        rig.assert_equal()
        assert rig.of(events.Connected)[-1].again
    assert rig.of(events.Disconnected)


class AnswerLost(CutTransport):
    """Breaks, once it is armed, when the agent has switched and says so."""

    def __init__(self, inner: Transport, armed: threading.Event) -> None:
        super().__init__(inner)
        self._armed = armed

    def read(self, limit: int) -> bytes:
        data = super().read(limit)
        if b"applied" not in data or not self._armed.is_set():
            return data
        self._armed.clear()
        return b""


def test_a_save_whose_answer_is_lost_is_told_after_the_reconnection(rig: Rig) -> None:
    armed = threading.Event()
    rig.wrap = lambda transport: AnswerLost(transport, armed)
    rig.write("a.py", "one")
    with rig.running() as session:
        first = session.request_scan()
        armed.set()
        rig.write("a.py", "two")
        second = session.request_scan()
    assert [event.snapshot for event in rig.of(events.Sent)] == [first, second]
    assert rig.of(events.Sent)[-1].paths == ("a.py",)
    kinds = [type(event) for event in rig.events]
    assert kinds.count(events.Connected) == 2
    assert kinds.index(events.Disconnected) < len(kinds) - 1 - kinds[::-1].index(events.Sent)
    rig.assert_equal()


def test_a_hung_agent_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("PULSE", 0.05), ("PING_AFTER", 0.1), ("DEAD_AFTER", 0.5)):
        monkeypatch.setattr(protocol, name, seconds)
    rig = Rig(tmp_path, "process")
    rig.write("a.py", "one")
    with rig.running() as session:
        session.request_scan()
        os.kill(rig.of(events.Connected)[-1].pid, signal.SIGSTOP)
        rig.write("a.py", os.urandom(5_000_000))
        session.request_scan()
        rig.assert_equal()
    assert any("silent" in event.reason for event in rig.of(events.Disconnected))


def test_a_batch_that_takes_longer_than_a_dead_agent_gets_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("PULSE", 0.05), ("PING_AFTER", 0.1), ("DEAD_AFTER", 2.0)):
        monkeypatch.setattr(protocol, name, seconds)
    monkeypatch.setattr(Agent, "SIGN_OF_LIFE", 0.05)
    rig = Rig(tmp_path, "memory")
    rig.wrap = lambda transport: SlowTransport(transport, piece=32_768, seconds=0.05)
    rig.write("large.bin", os.urandom(3_000_000))  # more than four seconds
    with rig.running() as session:
        session.request_scan(timeout=20)
        rig.assert_equal()
    assert rig.of(events.Disconnected) == []


def test_a_cut_in_a_long_batch_goes_on_where_it_was(rig: Rig) -> None:
    for number in range(30):
        rig.write(f"{number}.bin", os.urandom(100_000))
    cuts = iter([1_600_000])
    rig.wrap = lambda transport: CutTransport(transport, written=next(cuts, 1 << 60))
    with rig.running() as session:
        session.request_scan()
        rig.assert_equal()
    assert rig.of(events.Disconnected)
    assert rig.of(events.Sent)[0].bytes <= 2_000_000


def test_an_agent_that_lives_but_does_not_answer_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path, "memory")
    rig.write("a.py", "one")
    monkeypatch.setattr(upload, "ANSWER_TIMEOUT", 0.2)
    answer = Agent._answer
    unheard = ["begin"]

    def forget(agent: Agent, frame: Frame) -> None:
        if frame.type in unheard:
            unheard.remove(frame.type)
        else:
            answer(agent, frame)

    monkeypatch.setattr(Agent, "_answer", forget)
    with rig.running() as session:
        session.request_scan()
        rig.assert_equal()
    assert "did not answer" in rig.wait_for(events.Disconnected).reason


def test_an_agent_that_talks_nonsense_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path, "memory")
    rig.write("a.py", "one")
    with rig.running() as session:
        session.request_scan()
    nonsense = [{"../a.py": ["file", 0o644, 0, "0" * 40]}]

    def send_manifest(agent: Agent, _: Frame) -> None:
        entries = nonsense.pop() if nonsense else agent._store.entries
        agent._send("manifest", tree=agent._store.tree, entries=entries)

    monkeypatch.setattr(Agent, "_send_manifest", send_manifest)
    with rig.running() as session:
        session.request_scan()
    assert "does not stay inside" in rig.wait_for(events.Disconnected).reason


def test_an_agent_that_dies_as_soon_as_it_is_there_is_started_less_and_less_often(
    rig: Rig,
) -> None:
    rig.write("a.py", "one")
    clock = [0.0]
    session = rig.session(clock=lambda: clock[0])
    try:
        for lived in (0.0, 0.0, 0.0, 0.0, 60.0, 0.0):
            clock[0] += 1.0
            session.step()
            clock[0] += lived
            assert session._link is not None
            session._link.close()
            session.step()
    finally:
        session.close()
    pauses = [event.retry for event in rig.of(events.Disconnected)]
    assert pauses == [0.01, 0.02, 0.04, 0.05, 0.01, 0.02]


def test_a_mismatch_that_no_new_attempt_repairs_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path, "memory")
    rig.write("a.py", "one")

    def begin(*_: object, **__: object) -> None:
        raise Refusal("base_mismatch", "the store is somewhere else")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "begin", begin)
        with rig.running() as session:
            assert rig.wait_for(events.Refused).code == "base_mismatch"
            with pytest.raises(WindsockError, match="somewhere else"):
                session.request_scan()
            patch.undo()
            rig.wait_equal()


def test_a_folder_that_is_emptied_right_after_a_mismatch_halts_the_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path, "memory")
    rig.write("a.py", "one")
    clock = [0.0]
    session = rig.session(clock=lambda: clock[0])

    def receive(*_: object, **__: object) -> None:
        raise Refusal("digest_mismatch", "that is not what was promised")

    try:
        session.step()
        with monkeypatch.context() as patch:
            patch.setattr(Batch, "receive", receive)
            rig.write("a.py", "two")
            session.step()
        (rig.root / "a.py").unlink()
        clock[0] += 1.0
        session.step()
    finally:
        session.close()
    assert rig.of(events.Halted)
    assert (rig.current / "a.py").read_text() == "one"


def test_a_file_whose_times_lie_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (scan_module, upload):
        monkeypatch.setattr(module, "signature", lambda status: (status.st_size,))
    monkeypatch.setattr(scan_module, "_is_settled", lambda *_: True)
    monkeypatch.setattr(scan_module, "KEPT_TOTAL", 0)
    rig = Rig(tmp_path, "memory")
    rig.write("a.py", "one")
    rig.write("b.py", "one b")
    with rig.running() as session:
        session.request_scan()
        rig.write("a.py", "two")  # nothing tells
        shutil.rmtree(rig.current.resolve())
        rig.write("b.py", "two, b")
        session.request_scan()
        rig.assert_equal()


def test_an_agent_whose_client_dies_ends_and_frees_the_store(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "process")
    rig.write("a.py")
    program = (
        "import pathlib\n"
        "from windsock.store.agent import Options\n"
        "from windsock.sync.session import SyncSession\n"
        "from windsock.sync.transport import local_transport\n"
        "import threading\n"
        f"options = Options(store={str(rig.store)!r})\n"
        f"session = SyncSession(pathlib.Path({str(rig.root)!r}),\n"
        "    connect=lambda: local_transport(options),\n"
        "    on_event=lambda event: print(event, flush=True))\n"
        "session.run(threading.Event())\n"
    )
    client = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.DEVNULL)
    try:
        wait_until(rig.current.exists, "the first snapshot")
    finally:
        client.kill()
        client.wait()

    # Its agent ends by itself: the store is soon free for another session.
    def connects() -> bool:
        try:
            with rig.running() as session:
                session.request_scan()
        except WindsockError:
            return False
        return True

    wait_until(connects, "the store is free again")
    rig.assert_equal()


@pytest.mark.parametrize("count", [0, 1, 3, 5, 8, 13])
def test_a_full_disk_refuses_the_batch_and_changes_nothing(tmp_path: Path, count: int) -> None:
    rig = Rig(tmp_path, "memory")
    rig.write("a.py", "one")
    full = [False]
    left = [count]

    def write(descriptor: int, data: bytes) -> int:
        if full[0]:
            left[0] -= 1
            if left[0] < 0:
                os.write(descriptor, data[: len(data) // 2])
                raise OSError(errno.ENOSPC, "No space left on device")
        return os.write(descriptor, data)

    def connect() -> Transport:
        store = Store(rig.options.store, write=write)
        transport = MemoryTransport(rig.options, store=store)
        rig.transports.append(transport)
        return transport

    with rig.running(connect=connect) as session:
        first = session.request_scan()
        full[0] = True
        fresh = tmp_path / "new"
        fresh.mkdir()
        for number in range(count + 1):
            (fresh / f"b{number}.py").write_text(f"two {number}")
        fresh.rename(rig.root / "new")
        refused = rig.wait_for(events.Refused)
        assert refused.code == "no_space"
        assert "No space left" in refused.message
        with pytest.raises(WindsockError, match="No space left"):
            session.request_scan()
        assert seen_by_a_reader(rig.store) == first
        wait_until(  # It is tried again and again.
            lambda: not list((rig.store / "incoming").iterdir()),
            "nothing is left of the attempts",
        )
        full[0] = False
        wait_until(lambda: rig.current.readlink().name != first, "it is tried again by itself")
        rig.wait_equal()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk")
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "process")
    rig.store.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(rig.store)]
    if subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("this machine does not let us mount")
    try:
        rig.write("a.py", "one")
        with rig.running() as session:
            first = session.request_scan()
            large = rig.write("large.bin", os.urandom(4_000_000))
            assert rig.wait_for(events.Refused).code == "no_space"
            assert seen_by_a_reader(rig.store) == first
            large.unlink()
            rig.write("b.py", "two")
            session.request_scan()
            rig.assert_equal()
    finally:
        subprocess.run(["umount", str(rig.store)], check=True)  # noqa: S607 - umount from PATH


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk")
def test_a_small_disk_holds_more_saves_than_fit_beside_each_other(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "process")
    rig.store.mkdir()
    rig.options = rig.options._replace(minimum_age=0.0, collection_pause=3600.0)
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(rig.store)]
    if subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("this machine does not let us mount")
    try:
        rig.write("large.bin", os.urandom(500_000))
        with listening(rig) as processor, rig.running() as session:
            processor.references = []
            session.request_scan()
            for number in range(8):
                rig.write("large.bin", os.urandom(500_000))
                rig.wait_for(events.Sent, count=number + 2)
                rig.assert_equal()
            assert {refused.code for refused in rig.of(events.Refused)} == {"no_space"}
    finally:
        subprocess.run(["umount", str(rig.store)], check=True)  # noqa: S607 - umount from PATH


def test_a_disk_without_hardlinks_copies(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "memory")

    def link(*_: bytes) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    def connect() -> Transport:
        transport = MemoryTransport(rig.options, store=Store(rig.options.store, link=link))
        rig.transports.append(transport)
        return transport

    rig.write("a.py", "one").chmod(0o640)
    rig.write("b.py", "two")
    with rig.running(connect=connect) as session:
        session.request_scan()
        old = rig.current.resolve()
        rig.write("b.py", "three")
        session.request_scan()
        rig.assert_equal()
        assert (old / "a.py").stat().st_mtime_ns == (rig.current / "a.py").stat().st_mtime_ns


def test_a_store_that_cannot_be_made_is_told(rig: Rig) -> None:
    rig.store.write_text("a file where the store should be")
    with rig.running() as session:
        reason = rig.wait_for(events.Disconnected).reason
        assert "cannot be used as a store" in reason
        rig.store.unlink()
        session.request_scan()
        rig.assert_equal()


def test_an_interpreter_that_does_not_exist_is_told(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "process")
    with rig.running(connect=lambda: process_transport(["/does/not/exist"])):
        assert "/does/not/exist" in rig.wait_for(events.Disconnected).reason


def test_noise_before_the_agent_is_skipped_and_noise_instead_of_it_is_told(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "process")
    rig.write("a.py")
    inner = bootstrap.command(sys.executable, rig.options)

    def shell(script: str) -> Callable[[], Transport]:
        def connect() -> Transport:
            transport = process_transport(["/bin/sh", "-c", script, *inner])
            rig.transports.append(transport)
            return transport

        return connect

    with rig.running(connect=shell('echo "Welcome to this pod!"; exec "$0" "$@"')) as session:
        session.request_scan()
        rig.assert_equal()
    with rig.running(connect=shell('echo "Go away."; cat >/dev/null & exit 3')):
        assert "Go away." in rig.wait_for(events.Disconnected).reason


# --- any sequence of edits and cuts ---

NAMES = st.sampled_from(["a.py", "b.py", "d", "d/a.py", "d/e/f.py", "é", "d/e"])
EDITS = st.one_of(
    st.tuples(st.just("write"), NAMES, st.sampled_from(["", "one", "two", "x" * 70_000])),
    st.tuples(st.just("delete"), NAMES, st.just("")),
    st.tuples(st.just("rename"), NAMES, NAMES),
    st.tuples(st.just("mode"), NAMES, st.sampled_from(["600", "755"])),
    st.tuples(st.just("link"), NAMES, NAMES),
    st.tuples(st.just("sync"), st.just(""), st.just("")),
    st.tuples(st.just("cut"), st.integers(0, 3000).map(str), st.integers(0, 1500).map(str)),
)


def edit(root: Path, action: str, name: str, value: str) -> None:
    path = root / name
    if action in ("write", "link"):
        clear(root, path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if action == "write":
            path.write_text(value)
        else:
            path.symlink_to(os.path.relpath(root / value, path.parent))
    elif action == "delete":
        remove(path)
    elif action == "rename" and os.path.lexists(path) and not (name + "/").startswith(value + "/"):
        end = root / value
        if not (value + "/").startswith(name + "/"):
            clear(root, end)
            end.parent.mkdir(parents=True, exist_ok=True)
            path.rename(end)
    elif action == "mode" and path.is_file() and not path.is_symlink():
        path.chmod(int(value, 8))


def clear(root: Path, path: Path) -> None:
    """Make room for something at `path`, whatever is there or above it."""
    for folder in [*reversed(path.relative_to(root).parents)][1:]:
        if (root / folder).is_symlink() or (root / folder).is_file():
            (root / folder).unlink()
    remove(path)


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink()


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=st.lists(EDITS, max_size=25))
def test_any_sequence_of_edits_and_cuts_ends_equal(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, str]]
) -> None:
    rig = Rig(tmp_path_factory.mktemp("sequence"), "memory")
    rig.write("always.py", "there")
    cuts: list[tuple[int, int]] = []

    def wrap(transport: Transport) -> Transport:
        if not cuts:
            return transport
        written, read = cuts.pop()
        return CutTransport(transport, written=written, read=read)

    rig.wrap = wrap
    clock = [0.0]
    session = rig.session(times=None, clock=lambda: clock[0])
    states: set[str | None] = {None}
    try:
        for action, name, value in [*steps, ("sync", "", ""), ("sync", "", "")]:
            if action == "cut":
                cuts.append((int(name), int(value)))
                if session._link is not None:
                    session._link.close()
            elif action == "sync":
                states.add(synced_id(rig))
                clock[0] += 100.0
                session.step()
            else:
                edit(rig.root, action, name, value)
            assert seen_by_a_reader(rig.store) in states
        cuts.clear()
        for _ in range(3):
            clock[0] += 100.0
            session.step()
    finally:
        session.close()
    assert content_of(rig.current) == synced(rig)


def synced(rig: Rig) -> dict[str, Row]:
    """What of the folder is to travel: all but links that lead outside or to themselves."""
    problems = {problem.path for problem in scan(rig.root, Rules()).problems}
    return {path: row for path, row in content_of(rig.root).items() if path not in problems}


def synced_id(rig: Rig) -> str:
    return identify(canonical(synced(rig)))


def test_a_file_that_never_stands_still_does_not_hold_up_the_others(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.write("a.py", "one")
    busy = rig.root / "busy.bin"
    resting = threading.Event()

    def scan_then_change(*arguments: Any, **options: Any) -> Scan:
        found = scan(*arguments, **options)
        if not resting.is_set():
            busy.write_bytes(os.urandom(300_000))
        return found

    monkeypatch.setattr(folders_module, "scan", scan_then_change)
    with rig.running() as session:
        wait_until((rig.current / "a.py").exists, "the other file travels")
        rig.write("a.py", "two")
        wait_until(lambda: (rig.current / "a.py").read_text() == "two", "and travels again")
        resting.set()
        session.request_scan()
        rig.assert_equal()


def test_a_file_that_changed_after_the_scan_is_scanned_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = rig.write("large.bin", bytes(300_000))
    scans = []

    def scan_then_change(*arguments: Any, **options: Any) -> Scan:
        found = scan(*arguments, **options)
        scans.append(found)
        if len(scans) == 1:
            file.write_bytes(bytes(300_001))
        return found

    monkeypatch.setattr(folders_module, "scan", scan_then_change)
    with rig.running() as session:
        session.request_scan()
        rig.assert_equal()
    assert len(scans) >= 2
    assert len(list((rig.store / "snapshots").iterdir())) == 1


def test_a_crowd_of_threads_may_ask_for_the_same(rig: Rig) -> None:
    rig.write("a.py", "one")
    answers: list[str] = []
    with rig.running() as session:
        threads = [
            threading.Thread(target=lambda: answers.append(session.request_scan()))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == [tree_id_of(rig.root)] * 8
