from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.unit.airflow.fake_airflow import FakeAirflow, FakeDag, FakeTask, VirtualClock, line_of
from tests.unit.testing.fake_control import FakeControl
from windsock.model import Environment
from windsock.testing import plugin

if TYPE_CHECKING:
    from pathlib import Path

pytest_plugins = ["pytester"]

ALREADY_IMPORTED = "Module already imported so cannot be rewritten"
STRICT = ("-W", "error", "-W", f"ignore:{ALREADY_IMPORTED}:pytest.PytestAssertRewriteWarning")
"""The inner session shares this process, where windsock is imported long since."""


class Inner:
    """A pytest session inside of this one, whose environment is a fake."""

    def __init__(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pytester = pytester
        self.folder: Path = pytester.path
        (self.folder / "dags").mkdir()
        log = [line_of("about to explode"), line_of("boom", level="error")]
        self.fake = FakeAirflow(
            FakeDag("sales", tasks=[FakeTask("load", xcom=3)], file="sales.py"),
            FakeDag("stock", tasks=[FakeTask("count", xcom=7)], file="stock.py"),
            FakeDag(
                "broken",
                state="failed",
                tasks=[FakeTask("explode", state="failed", log=log)],
                file="broken.py",
            ),
            FakeDag("never", looks=10**9, tasks=[FakeTask("sleep", state="running")]),
        )
        self.used = {
            dag.file: [dag.file, dag.file.replace(".py", "_tax.py")]
            for dag in self.fake.dags.values()
        }
        self.further: dict[str, str] = {}
        self.asked = 0
        """How often a session was opened."""
        monkeypatch.delenv("WINDSOCK_STATE", raising=False)
        monkeypatch.setattr(plugin.Session, "open", lambda _config: self.session())

    def session(self) -> plugin.Session:
        self.asked += 1
        environment = Environment(
            target="local",
            url="http://127.0.0.1:18080",
            user="admin",
            password_file="password",
            control_socket="control.sock",
            dags_folder=str(self.folder / "dags"),
            further=self.further,
            airflow="3.3.2",
            patience=240.0,
        )
        self.control = control = FakeControl(self.fake, self.used)
        api = self.fake.client(VirtualClock())
        return plugin.Session(environment, api, control)  # type: ignore[arg-type] # a fake

    def run(self, text: str, *arguments: str) -> pytest.RunResult:
        self.pytester.makepyfile(test_dags=text)
        return self.pytester.runpytest_inprocess(*STRICT, *arguments)

    def git(self, *arguments: str) -> None:
        run_git(self.folder, *arguments)


def run_git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.invalid")
    subprocess.run(
        ["git", *identity, *arguments],  # noqa: S607 - the developer's own git
        cwd=folder,
        check=True,
        capture_output=True,
    )


@pytest.fixture
def inner(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Inner:
    return Inner(pytester, monkeypatch)


PASSING = """
def test_sales(airflow):
    run = airflow.run("sales", conf={"day": "2026-01-01"}, timeout=60)
    assert run.state == "success"
    assert run.task("load").xcom() == 3
"""

FAILING = """
def test_broken(airflow):
    airflow.run("sales")
    assert airflow.run("broken").state == "success"
"""


def test_the_plugin_loads_without_anything_heavy() -> None:
    code = (
        "import sys, windsock.testing.plugin;"
        "heavy = {'httpx', 'yaml', 'watchdog', 'kubernetes', 'docker'} & sys.modules.keys();"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_passing_test_leaves_no_run(inner: Inner) -> None:
    inner.run(PASSING).assert_outcomes(passed=1)
    assert inner.fake.runs == {}
    assert inner.control.barriers == [240.0]


def test_runs_are_kept_if_asked_for(inner: Inner) -> None:
    inner.run(PASSING, "--windsock-keep-runs").assert_outcomes(passed=1)
    assert [dag_id for dag_id, _ in inner.fake.runs] == ["sales"]


def test_a_failing_test_shows_its_runs_and_keeps_them(inner: Inner) -> None:
    result = inner.run(FAILING)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*DAG run sales*",
            "success  http://127.0.0.1:18080/dags/sales/runs/windsock__test_broken__*",
            "*DAG run broken*",
            "failed  http://127.0.0.1:18080/dags/broken/runs/windsock__test_broken__*",
            "explode    1  failed*",
            "--- explode, try 1: *",
            "*INFO about to explode",
            "*ERROR boom",
        ]
    )
    assert {dag_id for dag_id, _ in inner.fake.runs} == {"sales", "broken"}


def test_a_failing_test_points_at_the_users_line_not_into_windsock(inner: Inner) -> None:
    result = inner.run('def test_it(airflow):\n    airflow.run("salse")\n')
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*DagError: there is no DAG 'salse'", "*Did you mean sales?"])
    result.stdout.no_fnmatch_line("*running.py*")


@pytest.mark.parametrize(
    "text",
    [
        "from airflow.models import DagBag\n",
        "def test_no_import_errors():\n    from airflow.models import DagBag\n",
    ],
)
def test_a_test_that_imports_airflow_is_told_where_it_can(inner: Inner, text: str) -> None:
    result = inner.run(text)
    result.stdout.fnmatch_lines(
        [
            "*ModuleNotFoundError: No module named 'airflow'*",
            "*Airflow has another Python environment than the tests*",
            "*invoke dags.check*",
            "*invoke shell -- python -m pytest test_dags.py*",
        ]
    )


def test_a_run_that_still_goes_on_is_stopped_when_the_test_ends(inner: Inner) -> None:
    result = inner.run(
        "def test_one(airflow):\n"
        '    airflow.trigger("never")\n'
        "def test_two(airflow):\n"
        '    airflow.trigger("never")\n'
        "    assert False\n"
    )
    result.assert_outcomes(passed=1, failed=1)
    assert [run["state"] for run in inner.fake.runs.values()] == ["failed"]


def test_a_run_that_cannot_be_cleaned_up_is_an_error(inner: Inner) -> None:
    inner.fake.routes = [
        (method, pattern, (lambda *_: httpx.Response(500)) if method == "DELETE" else handler)
        for method, pattern, handler in inner.fake.routes
    ]
    result = inner.run(PASSING)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(
        ["*These DAG runs could not be stopped or deleted:*", "sales windsock__test_sales__*"]
    )


def test_the_runs_are_in_the_junit_file(inner: Inner) -> None:
    inner.run(PASSING, "--junitxml=report.xml").assert_outcomes(passed=1)
    tree = ET.parse(inner.folder / "report.xml")  # noqa: S314 - pytest wrote it just now
    properties = {item.get("name"): item.get("value") for item in tree.iter("property")}
    assert properties["windsock.dag_id"] == "sales"
    assert str(properties["windsock.run_id"]).startswith("windsock__test_sales__")
    assert str(properties["windsock.run_url"]).endswith(str(properties["windsock.run_id"]))


def test_the_environment_is_opened_once_for_all_tests(inner: Inner) -> None:
    inner.run(PASSING + PASSING.replace("test_sales", "test_again")).assert_outcomes(passed=2)
    assert inner.fake.tokens == 1


@pytest.mark.parametrize("how", ["default", "ini", "variable", "option"])
def test_no_environment_is_an_error_that_says_where_it_looked(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    arguments = []
    monkeypatch.delenv("WINDSOCK_STATE", raising=False)
    if how != "default":
        pytester.makeini("[pytest]\nwindsock_state = from-ini\n")
    if how in ("variable", "option"):
        monkeypatch.setenv("WINDSOCK_STATE", "from-variable")
    if how == "option":
        arguments = ["--windsock-state=from-option"]
    pytester.makepyfile(PASSING)
    result = pytester.runpytest_inprocess(*STRICT, *arguments)
    result.assert_outcomes(errors=1)
    folder = ".windsock" if how == "default" else f"from-{how}"
    result.stdout.fnmatch_lines(
        ["no environment is up here", "*invoke up*", f"(looked in {pytester.path / folder};*"]
    )


THREE = """
import pytest

def test_sales(airflow):
    airflow.run("sales")

def test_stock(airflow):
    airflow.run("stock")

@pytest.mark.dag("stock")
def test_marked(airflow):
    airflow.run("sa" + "les")

def test_no_dag():
    pass
"""


@pytest.fixture
def repository(inner: Inner) -> Inner:
    for name in ("sales", "stock"):
        (inner.folder / "dags" / f"{name}.py").write_text(f"import {name}_tax\n")
        (inner.folder / "dags" / f"{name}_tax.py").write_text("RATE = 1\n")
    (inner.folder / "README.md").write_text("hello\n")
    (inner.folder / ".gitignore").write_text("__pycache__\n.pytest_cache\n")
    inner.pytester.makepyfile(test_dags=THREE)
    inner.git("init", "--quiet")
    inner.git("add", ".")
    inner.git("commit", "--quiet", "--message=first")
    return inner


def affected(inner: Inner, *arguments: str) -> tuple[list[str], pytest.RunResult]:
    result = inner.pytester.runpytest_inprocess(
        *STRICT, "--affected=HEAD", "--collect-only", "-q", *arguments
    )
    names = [line.split("::")[1] for line in result.outlines if line.startswith("test_dags.py::")]
    return (names if result.ret == pytest.ExitCode.OK else []), result


def test_without_a_change_no_test_is_affected(repository: Inner) -> None:
    names, result = affected(repository)
    assert repository.control.barriers == [240.0]
    assert names == []
    result.stdout.fnmatch_lines(["windsock: 0 of 4 tests may be affected since HEAD"])


def test_a_changed_dag_file_chooses_the_tests_of_its_dags_and_those_in_doubt(
    repository: Inner,
) -> None:
    (repository.folder / "dags" / "sales.py").write_text("import sales_tax  # changed\n")
    names, result = affected(repository)
    assert names == ["test_sales", "test_no_dag"]
    result.stdout.fnmatch_lines(
        [
            "windsock: 2 of 4 tests may be affected since HEAD",
            "  affected DAGs: sales",
            "  1 of them in doubt:*",
        ]
    )


@pytest.mark.parametrize("how", ["unstaged", "staged", "deleted"])
def test_a_changed_helper_chooses_the_tests_of_the_dags_that_import_it(
    repository: Inner, how: str
) -> None:
    helper = repository.folder / "dags" / "stock_tax.py"
    if how == "deleted":
        helper.unlink()
    else:
        helper.write_text("RATE = 2\n")
    if how == "staged":
        repository.git("add", ".")
    assert affected(repository)[0] == ["test_stock", "test_marked", "test_no_dag"]


def test_a_committed_change_counts_too(repository: Inner) -> None:
    (repository.folder / "dags" / "stock.py").write_text("# changed\n")
    repository.git("commit", "--all", "--quiet", "--message=second")
    assert affected(repository)[0] == []
    assert affected(repository, "--affected=HEAD~1")[0] == [
        "test_stock",
        "test_marked",
        "test_no_dag",
    ]


@pytest.mark.parametrize(
    "name", ["dags/query.sql", "dags/nobody_imports_me.py", "conftest.py", "requirements.txt"]
)
def test_a_file_that_nobody_can_attribute_chooses_every_test(repository: Inner, name: str) -> None:
    (repository.folder / name).write_text("")
    names, result = affected(repository)
    assert len(names) == 4
    result.stdout.fnmatch_lines(["  every test: *changed*"])


def test_what_a_dag_file_opened_or_listed_chooses_its_tests(repository: Inner) -> None:
    (repository.folder / "dags" / "sql").mkdir()
    (repository.folder / "dags" / "sql" / "daily.sql").write_text("select 1")
    repository.used["stock.py"] += ["sql/daily.sql"]
    assert affected(repository)[0] == ["test_stock", "test_marked", "test_no_dag"]
    repository.used["stock.py"].pop()
    repository.used["sales.py"] += ["sql/"]
    assert affected(repository)[0] == ["test_sales", "test_no_dag"]


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("def task():\n    from shop.tax import RATE\n", "shop/tax.py"),
        ("def task():\n    import shop.cart\n", "shop/tax.py"),
        ("import importlib\n", "shop/tax.py"),
        ("import shop\n", "shop/__init__.py"),
        ("TriggerDagRunOperator(trigger_dag_id='stock')\n", "stock.py"),
    ],
)
def test_a_file_may_use_a_module_or_a_dag_only_when_it_runs(
    repository: Inner, text: str, changed: str
) -> None:
    dags = repository.folder / "dags"
    (dags / "shop").mkdir()
    (dags / "shop" / "__init__.py").touch()
    (dags / "shop" / "tax.py").write_text("RATE = 1\n")
    (dags / "shop" / "cart.py").write_text("from shop.tax import RATE\n")
    (dags / "sales.py").write_text(text)
    repository.git("add", ".")
    repository.git("commit", "--quiet", "--message=second")
    (dags / changed).write_text("# changed\n")
    names, result = affected(repository)
    assert "test_sales" in names
    assert "every test" not in result.stdout.str()


def test_a_dag_file_without_a_record_may_use_every_file(repository: Inner) -> None:
    del repository.used["sales.py"]
    (repository.folder / "dags" / "stock_tax.py").write_text("RATE = 2\n")
    assert len(affected(repository)[0]) == 4
    repository.used.clear()
    (repository.folder / "dags" / "query.sql").write_text("")
    assert len(affected(repository)[0]) == 4


def test_prose_and_other_test_modules_choose_only_what_is_in_doubt(repository: Inner) -> None:
    (repository.folder / "README.md").write_text("changed\n")
    (repository.folder / "test_other.py").write_text("")
    assert affected(repository, "test_dags.py")[0] == ["test_no_dag"]


def test_a_changed_test_module_is_run(repository: Inner) -> None:
    (repository.folder / "test_dags.py").write_text(THREE + "\n# changed\n")
    assert len(affected(repository)[0]) == 4


def test_a_dag_that_airflow_does_not_list_is_in_doubt(repository: Inner) -> None:
    repository.fake.dags["sales"].stale = True
    (repository.folder / "dags" / "stock.py").write_text("# changed\n")
    assert "test_sales" in affected(repository)[0]


def test_a_dag_whose_file_is_broken_is_in_doubt(repository: Inner) -> None:
    repository.fake.import_errors["sales.py"] = "NameError"
    (repository.folder / "dags" / "stock.py").write_text("# changed\n")
    assert "test_sales" in affected(repository)[0]


def test_an_unknown_ref_ends_the_session_in_words(repository: Inner) -> None:
    result = affected(repository, "--affected=nope")[1]
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*git knows no ref 'nope'*"])


def test_no_git_ends_the_session_in_words(inner: Inner) -> None:
    inner.pytester.makepyfile(test_dags=THREE)
    result = affected(inner)[1]
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*is in no git repository*"])


@pytest.mark.parametrize("project", ["no repository", "without the ref"])
def test_the_project_may_be_elsewhere_than_its_tests_and_dags(
    repository: Inner,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    project: str,
) -> None:
    elsewhere = tmp_path_factory.mktemp("project")
    if project == "without the ref":
        run_git(elsewhere, "init", "--quiet")
    repository.git("tag", "before")
    (repository.folder / "dags" / "sales.py").write_text("import sales_tax  # changed\n")
    monkeypatch.chdir(elsewhere)
    tests = str(repository.folder / "test_dags.py")
    result = repository.pytester.runpytest_inprocess(
        *STRICT, "--affected=before", "--collect-only", "-q", tests
    )
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(
        [
            f"windsock: changes in {elsewhere} are not seen: *",
            "windsock: 2 of 4 tests may be affected since before",
            "  affected DAGs: sales",
        ]
    )
    changed = elsewhere / "airflow_settings.yaml"
    changed.write_text("")
    if project == "without the ref":
        run_git(elsewhere, "add", ".")
        run_git(elsewhere, "commit", "--quiet", "--message=first")
        run_git(elsewhere, "tag", "before")
        changed.write_text("airflow: {}")
        result = repository.pytester.runpytest_inprocess(
            *STRICT, "--affected=before", "--collect-only", "-q", tests
        )
        result.stdout.fnmatch_lines(["  every test: airflow_settings.yaml changed*"])


def test_a_change_in_a_further_folder_of_another_repository_affects_every_test(
    repository: Inner, tmp_path_factory: pytest.TempPathFactory
) -> None:
    include = tmp_path_factory.mktemp("include")
    repository.further = {"include": str(include)}
    _, result = affected(repository)
    result.stdout.fnmatch_lines([f"windsock: changes in {include} are not seen: *"])
    run_git(include, "init", "--quiet")
    (include / "prices.py").write_text("")
    run_git(include, "add", ".")
    run_git(include, "commit", "--quiet", "--message=first")
    assert affected(repository)[0] == []
    (include / "prices.py").write_text("RATE = 2")
    names, result = affected(repository)
    assert len(names) == 4
    result.stdout.fnmatch_lines(["  every test: prices.py changed*"])


def test_of_tests_or_dags_in_no_repository_is_said_which_they_are(
    repository: Inner, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "test_more.py").write_text("def test_more():\n    pass\n")
    result = affected(repository, str(elsewhere / "test_more.py"))[1]
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*the tests: {elsewhere} is in no git repository*"])


MARKED = """
import pytest

@pytest.mark.dag("sales")
def test_sales():
    pass

@pytest.mark.dag("stock")
def test_stock():
    pass
"""


def test_with_xdist_one_process_asks_and_the_choice_is_shown_once(repository: Inner) -> None:
    repository.pytester.makepyfile(test_dags=MARKED)
    repository.git("add", ".")
    repository.git("commit", "--quiet", "--message=second")
    (repository.folder / "dags" / "sales.py").write_text("import sales_tax  # changed\n")
    # The workers, other processes, have no fake: asking would fail there.
    result = repository.pytester.runpytest_inprocess("-n", "2", "--affected=HEAD", "-v")
    result.assert_outcomes(passed=1)
    shown = result.stdout.str()
    assert "test_sales" in shown
    assert shown.count("windsock: 1 of 2 tests may be affected since HEAD") == 1
    assert shown.count("affected DAGs: sales") == 1
    assert repository.asked == 1
