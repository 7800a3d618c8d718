from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from tests.unit.fakes import FakeTarget, KeptConsole, environment
from windsock.config import load
from windsock.errors import ConfigurationError, EnvironmentFailure
from windsock.flow.rebuild import Rebuilder, SourcesWatch, in_background
from windsock.flow.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


REBUILT = ["lock", "prepare", "deploy", "wait", "unlock"]


class AskedConsole(KeptConsole):
    """A console on a terminal, whose person answers what the test says."""

    def __init__(self, answers: Sequence[str | None] = ()) -> None:
        super().__init__()
        self.answers = list(answers)
        self.questions: list[str] = []

    @property
    def interactive(self) -> bool:
        return True

    def ask(self, question: str) -> None:
        self.questions.append(question)

    def answer(self) -> str | None:
        return self.answers.pop(0) if self.answers else None

    def withdraw(self) -> None:
        self.questions.append("withdrawn")


class Rig:
    """A rebuilder on a project of two files, and the targets that it makes."""

    def __init__(
        self,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        *,
        rebuild: str,
        console: KeptConsole | None = None,
    ) -> None:
        self.requirements = folder / "requirements.txt"
        self.requirements.write_text("one\n")
        self.unused = folder / "unused.txt"
        self.dags = folder / "dags"
        self.dags.mkdir()
        self._targets: list[FakeTarget] = []
        self.runs_already = False
        self.fails: dict[str, BaseException] = {}
        self.shown = 0
        self._environment = environment(folder / "state", socket=folder / "control.sock")
        self.running = self._target()
        self.console = console or KeptConsole()
        self.state = folder / "state"
        settings = load({"state": str(folder / "state"), "rebuild": rebuild}, project=folder)
        work = Workspace(settings=settings, console=self.console)
        monkeypatch.setattr("windsock.flow.rebuild.show_dags", self._show)
        self.rebuilder = Rebuilder(work, self.running, clock=lambda: 0.0)

    def _show(self, *_: object) -> None:
        self.shown += 1
        if "show" in self.fails:
            raise self.fails["show"]

    def _target(self) -> FakeTarget:
        target = FakeTarget(self._environment)
        target.source_files = [self.requirements, self.unused]
        target.make_another = self._make
        return target

    def _make(self) -> FakeTarget:
        target = self._target()
        target.fails = self.fails
        target.is_running = self.runs_already
        self._targets.append(target)
        return target

    @property
    def made(self) -> list[FakeTarget]:
        """The targets that were told to do something."""
        return [target for target in self._targets if target.verbs]

    def settle(self) -> str:
        """Look until everything has come of what changed; what was said meanwhile."""
        before = len(self.console.said)
        for _ in range(3):
            self.rebuilder.look()
        return self.console.said[before:]


@pytest.fixture
def auto(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    return Rig(tmp_path, monkeypatch, rebuild="auto")


def test_a_change_says_what_it_means_and_is_rebuilt_under_the_lock(auto: Rig) -> None:
    auto.requirements.write_text("one\ntwo\n")
    said = auto.settle()
    assert "! requirements.txt changed: it must be rebuilt" in said
    assert "rebuilt and rolled out in 0.0 s" in said
    [made] = auto.made
    assert made.verbs == REBUILT
    assert auto.running.verbs == []
    assert auto.shown == 1
    assert (auto.state / "environment.json").exists()
    assert auto.settle() == ""


def test_a_file_that_is_still_being_written_is_waited_for(auto: Rig) -> None:
    for text in ("", "o", "two\n"):
        auto.requirements.write_text(text)
        auto.rebuilder.look()
        assert auto.made == []
    auto.rebuilder.look()
    assert len(auto.made) == 1


@pytest.mark.parametrize("change", ["touch", "same"])
def test_a_save_that_changes_nothing_means_nothing(auto: Rig, change: str) -> None:
    if change == "touch":
        auto.requirements.touch()
    else:
        auto.requirements.unlink()
        auto.requirements.write_text("one\n")
    assert auto.settle() == ""
    assert auto.made == []


def test_a_file_that_is_deleted_or_new_has_changed(auto: Rig) -> None:
    auto.requirements.unlink()
    assert "requirements.txt changed" in auto.settle()
    auto.requirements.write_text("new\n")
    assert "requirements.txt changed" in auto.settle()
    assert len(auto.made) == 2


def test_what_other_targets_are_built_of_is_said_and_not_rebuilt(auto: Rig) -> None:
    auto.unused.write_text("libgomp1\n")
    said = auto.settle()
    assert "unused.txt changed: nothing to do on the target fake" in said
    assert auto.made == []


def test_a_rebuild_that_fails_says_why_and_touches_nothing_that_runs(auto: Rig) -> None:
    auto.fails = {"prepare": ConfigurationError("there is no package two", "fix it")}
    auto.requirements.write_text("two\n")
    said = auto.settle()
    assert "✗ there is no package two\n  fix it\n" in said
    assert "not rebuilt; saves are synced as before" in said
    assert auto.made[0].verbs == ["lock", "prepare", "unlock"]
    assert auto.running.verbs == []
    assert auto.settle() == ""  # It is not tried again until the file changes again.


def test_nothing_is_rebuilt_without_the_dag_folder(auto: Rig) -> None:
    auto.dags.rmdir()  # A halted sync would keep Airflow from starting again.
    auto.requirements.write_text("two\n")
    said = auto.settle()
    assert "not rebuilt; saves are synced as before" in said
    assert auto.made == []


def test_an_undone_change_is_what_runs(auto: Rig) -> None:
    auto.fails = {"prepare": ConfigurationError("there is no package two")}
    auto.requirements.write_text("two\n")
    auto.settle()
    auto.requirements.write_text("one\n")
    said = auto.settle()
    assert said == "✓ requirements.txt changed: what runs is built of it already\n"
    assert len(auto.made) == 1


def test_what_another_terminal_rebuilt_is_not_rebuilt_and_is_gone_back_to(auto: Rig) -> None:
    auto.runs_already = True
    auto.requirements.write_text("two\n")
    assert "what runs is built of it already" in auto.settle()
    assert auto.made == []
    auto.runs_already = False
    auto.fails = {"wait": EnvironmentFailure("no")}
    auto.requirements.write_text("three\n")
    auto.settle()
    assert auto.running.verbs == []
    assert [made.verbs for made in auto.made] == [["deploy", "wait"], REBUILT]


@pytest.mark.parametrize("verb", ["deploy", "wait"])
def test_what_does_not_come_up_gives_way_to_what_ran_before(auto: Rig, verb: str) -> None:
    auto.fails = {verb: EnvironmentFailure("the scheduler does not run", "its last words")}
    auto.requirements.write_text("two\n")
    said = auto.settle()
    assert "✗ the scheduler does not run\n  its last words\n" in said
    assert "going back to what ran before" in said
    assert "not rebuilt; saves are synced as before" in said
    assert auto.running.verbs == ["deploy", "wait"]
    assert "rolled out" not in said
    auto.requirements.write_text("one\n")
    assert "already" in auto.settle()


def test_dags_that_cannot_be_shown_do_not_undo_the_rebuild(auto: Rig) -> None:
    auto.fails = {"show": EnvironmentFailure("the sync process does not answer")}
    auto.requirements.write_text("two\n")
    said = auto.settle()
    assert "rebuilt and rolled out" in said
    assert "✗ the sync process does not answer" in said
    assert "not rebuilt" not in said
    assert auto.settle() == ""


def test_the_next_failure_goes_back_to_the_last_rebuild(auto: Rig) -> None:
    auto.requirements.write_text("two\n")
    auto.settle()
    auto.fails = {"deploy": EnvironmentFailure("no")}
    auto.requirements.write_text("three\n")
    auto.settle()
    assert auto.made[0].verbs == [*REBUILT, "deploy", "wait"]
    assert auto.running.verbs == []


def test_a_way_back_that_is_blocked_is_told_as_well(auto: Rig) -> None:
    auto.fails = {"deploy": EnvironmentFailure("no")}
    auto.running.fails = {"deploy": EnvironmentFailure("neither")}
    auto.requirements.write_text("two\n")
    said = auto.settle()
    assert "✗ no\n" in said
    assert "✗ neither\n" in said


def test_an_edit_that_cannot_be_judged_is_said_and_the_watch_goes_on(auto: Rig) -> None:
    auto.running.fails = {"meaning": ConfigurationError("more.txt does not exist", "restore it")}
    auto.requirements.write_text("-r more.txt\n")
    said = auto.settle()
    assert "! requirements.txt changed, and cannot be built as it is now:\n" in said
    assert "✗ more.txt does not exist\n  restore it\n" in said
    assert auto.made == []
    auto.running.fails = {}
    auto.requirements.write_text("-r more.txt\ntwo\n")
    assert "rebuilt and rolled out" in auto.settle()


@pytest.mark.parametrize("rebuild", ["never", "ask"])
def test_without_leave_or_a_terminal_only_the_command_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rebuild: str
) -> None:
    rig = Rig(tmp_path, monkeypatch, rebuild=rebuild)
    rig.requirements.write_text("two\n")
    assert "`invoke up --detach` in another terminal does it" in rig.settle()
    assert rig.made == []


def test_a_terminal_is_asked_and_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    console = AskedConsole([None, None, "y"])
    rig = Rig(tmp_path, monkeypatch, rebuild="ask", console=console)
    rig.requirements.write_text("two\n")
    rig.settle()
    assert console.questions == ["rebuild and restart now? [y/N]"]
    assert rig.made == []
    rig.settle()
    assert [made.verbs for made in rig.made] == [REBUILT]


@pytest.mark.parametrize("answer", ["", "n", "what?"])
def test_any_other_answer_is_no(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    rig = Rig(tmp_path, monkeypatch, rebuild="ask", console=AskedConsole([answer]))
    rig.requirements.write_text("two\n")
    rig.settle()
    assert "not now; `invoke up --detach`" in rig.console.said + rig.settle()
    assert rig.made == []


def test_the_question_is_taken_back_with_the_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    console = AskedConsole()
    rig = Rig(tmp_path, monkeypatch, rebuild="ask", console=console)
    rig.requirements.write_text("two\n")
    rig.settle()
    rig.requirements.write_text("one\n")
    rig.settle()
    console.answers = ["y"]
    rig.settle()
    assert console.questions == ["rebuild and restart now? [y/N]", "withdrawn"]
    assert rig.made == []


def test_files_that_cannot_be_told_go_on_being_watched(tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text("one\n")
    broken: list[Exception] = []

    def files() -> list[Path]:
        if broken:
            raise broken[0]
        return [file]

    watch = SourcesWatch(files)
    broken.append(ConfigurationError("missing.txt does not exist"))
    file.write_text("-r missing.txt\n")
    assert not watch.at_rest()
    assert watch.changed() == {file}


# --- in the background ----------------------------------------------------------------------------


def test_the_looks_go_on_until_the_work_is_done() -> None:
    looks: list[int] = []
    enough = threading.Event()

    def look() -> None:
        looks.append(1)
        if len(looks) == 3:
            enough.set()

    def work(_: threading.Event) -> int:
        assert enough.wait(10)
        return 7

    assert in_background(work, look, every=0.001) == 7


def test_what_the_work_raises_is_raised() -> None:
    def work(_: threading.Event) -> int:
        raise EnvironmentFailure("gone")

    with pytest.raises(EnvironmentFailure, match="gone"):
        in_background(work, lambda: None)


def test_an_interrupted_look_leaves_the_work_behind_and_tells_it() -> None:
    told: list[threading.Event] = []
    end = threading.Event()

    def work(left: threading.Event) -> int:
        told.append(left)
        end.wait(10)
        return 0

    def look() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        in_background(work, look, every=0.001)
    assert told[0].is_set()
    end.set()
