from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windsock.airflow.settings_file import content
from windsock.airflow.settings_file import read as load
from windsock.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

    from windsock.airflow.settings_file import Connection, Entries


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "airflow_settings.yaml"


def read(file: Path, text: str, **environment: str) -> Entries:
    file.write_text(text, encoding="utf-8")
    return load(file, environment=environment)


def connection(file: Path, fields: str, **environment: str) -> Connection:
    body = "\n".join("      " + line for line in fields.splitlines())
    return read(
        file, f"airflow:\n  connections:\n    - conn_id: it\n{body}\n", **environment
    ).connections[0]


def refused(file: Path, text: str, **environment: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        read(file, text, **environment)
    return str(caught.value).replace(str(file), "FILE")


ALL = """\
airflow:
  connections:
    - conn_id: warehouse
      conn_type: postgres
      conn_host: localhost
      conn_schema: sales
      conn_login: reader
      conn_password: hush
      conn_port: 5432
      conn_extra:
        sslmode: disable
        keepalives: 1
  pools:
    - pool_name: supplier
      pool_slot: 1
      pool_description: one at a time
  variables:
    - variable_name: currency
      variable_value: EUR
"""


def test_every_field_of_the_format_is_read(file: Path) -> None:
    entries = read(file, ALL)
    assert entries.bodies("connections") == [
        {
            "connection_id": "warehouse",
            "conn_type": "postgres",
            "host": "localhost",
            "schema": "sales",
            "login": "reader",
            "password": "hush",
            "port": 5432,
            "extra": '{"sslmode": "disable", "keepalives": 1}',
        }
    ]
    assert entries.bodies("pools") == [
        {"name": "supplier", "slots": 1, "description": "one at a time"}
    ]
    assert entries.bodies("variables") == [{"key": "currency", "value": "EUR"}]


def test_without_a_file_there_are_no_entries(file: Path) -> None:
    assert load(file).bodies("connections") == []


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "airflow:\n", "airflow:\n  pools:\n"])
def test_an_empty_file_has_no_entries(file: Path, text: str) -> None:
    entries = read(file, text)
    assert (entries.connections, entries.variables, entries.pools) == ((), (), ())


def test_the_empty_entries_of_the_template_are_passed_over(file: Path) -> None:
    text = """\
airflow:
  connections:
    - conn_id:
      conn_type:
      conn_host:
      conn_schema:
      conn_login:
      conn_password:
      conn_port:
      conn_uri:
      conn_extra:
        example_extra_field: example-value
  pools:
    - pool_name:
      pool_slot:
      pool_description:
  variables:
    - variable_name:
      variable_value:
"""
    assert "has no conn_id" in refused(file, text)
    entries = read(file, text.replace("\n        example_extra_field: example-value", ""))
    assert (entries.connections, entries.variables, entries.pools) == ((), (), ())


def test_secrets_are_not_in_the_repr(file: Path) -> None:
    assert "hush" not in repr(read(file, ALL))


def test_values_stay_as_they_are_written(file: Path) -> None:
    text = """\
airflow:
  variables:
    - {variable_name: version, variable_value: 1.10}
    - {variable_name: flag, variable_value: true}
    - {variable_name: day, variable_value: 2026-01-01}
    - {variable_name: empty, variable_value: }
    - variable_name: nested
      variable_value: {crates: [1, 2]}
"""
    assert {item.key: item.value for item in read(file, text).variables} == {
        "version": "1.10",
        "flag": "true",
        "day": "2026-01-01",
        "empty": "",
        "nested": '{"crates": [1, 2]}',
    }


def test_a_name_from_the_environment_replaces_it_also_deep_in_the_extra(file: Path) -> None:
    fields = """\
conn_type: http
conn_password: pre-${SECRET}
conn_extra: {deep: ["${SECRET}"]}"""
    found = connection(file, fields, SECRET='qu"ote')
    assert found.password == 'pre-qu"ote'
    assert json.loads(found.extra or "") == {"deep": ['qu"ote']}


def test_a_json_extra_takes_the_environment_inside_its_strings(file: Path) -> None:
    fields = 'conn_type: http\nconn_extra: \'{"token": "${SECRET}"}\''
    assert json.loads(connection(file, fields, SECRET='qu"ote').extra or "") == {"token": 'qu"ote'}


@pytest.mark.parametrize("text", ["pa$$word", "$HOME", "$", "${not a name}", "${}", "a$b{c}"])
def test_a_dollar_that_names_nothing_stays(file: Path, text: str) -> None:
    assert connection(file, f"conn_type: http\nconn_password: '{text}'").password == text


def test_two_dollars_before_a_brace_write_the_text_itself(file: Path) -> None:
    found = connection(file, "conn_type: http\nconn_password: '$${SECRET}'", SECRET="no")
    assert found.password == "${SECRET}"


def test_an_unset_environment_variable_names_its_line(file: Path) -> None:
    text = "airflow:\n  variables:\n    - variable_name: a\n      variable_value: ${MISSING}\n"
    assert refused(file, text) == (
        "FILE:4: the environment variable MISSING is not set\n"
        "Set it, or write $${MISSING} for the text itself."
    )


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        (
            "postgresql://user:p%40ss@host:5432/db?sslmode=disable&timeout=5",
            (
                *("postgres", "host", "user", "p@ss", "db", 5432),
                '{"sslmode": "disable", "timeout": 5}',
            ),
        ),
        ("http://https://example.invalid", ("http", "https://example.invalid", *[None] * 5)),
        ("google-cloud-platform://", ("google_cloud_platform", *[None] * 6)),
        ("postgres://%2FVar%2Frun/db", ("postgres", "/Var/run", None, None, "db", None, None)),
        ('http://h?__extra__={"a": 1}', ("http", "h", *[None] * 4, '{"a": 1}')),
        ("http://h?empty=", ("http", "h", *[None] * 4, '{"empty": ""}')),
    ],
)
def test_a_uri_is_read_as_airflow_reads_it(
    file: Path, uri: str, expected: tuple[str | int | None, ...]
) -> None:
    found = connection(file, f"conn_uri: {uri!r}")
    fields = (found.conn_type, found.host, found.login, found.password, found.schema, found.port)
    assert (*fields, found.extra) == expected


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("airflow: [", "FILE:1: this is no YAML"),
        ("airflow:\n\tconnections:\n", "FILE:2: this is no YAML"),
        ("- 1\n", "FILE:1: the top of the file must be a mapping"),
        (
            "airlfow:\n",
            "FILE:1: the top of the file knows no key 'airlfow'\nDid you mean 'airflow'?",
        ),
        ("airflow:\n  variable: []\n", "FILE:2: `airflow` knows no key 'variable'"),
        ("airflow:\n  pools: 3\n", "FILE:2: `pools` must be a list"),
        ("airflow:\n  pools:\n  - 3\n", "FILE:3: an entry of `pools` must be a mapping"),
        (
            "airflow:\n  connections:\n  - conn_id: a\n    con_type: http\n",
            "FILE:4: an entry of `connections` knows no key 'con_type'\nDid you mean 'conn_type'?",
        ),
        (
            "airflow:\n  connections:\n  - conn_id: a\n    conn_host: h\n",
            "FILE:3: connection 'a' has neither conn_type nor conn_uri",
        ),
        (
            "airflow:\n  connections:\n  - conn_id: a\n    conn_type: b\n    conn_uri: b://c\n",
            "FILE:3: connection 'a' has conn_uri and other fields",
        ),
        (
            "airflow:\n  connections:\n  - conn_id: a b\n    conn_type: b\n",
            "FILE:3: 'a b' is no connection id",
        ),
        (
            "airflow:\n  connections:\n  - conn_id: a\n    conn_type: b\n    conn_port: x\n",
            "FILE:5: conn_port is 'x', not a port",
        ),
        (
            "airflow:\n  connections:\n  - conn_id: a\n    conn_type: b\n    conn_port: 70000\n",
            "FILE:5: conn_port is '70000', not a port",
        ),
        (
            "airflow:\n  connections:\n  - conn_id: a\n    conn_type: b\n    conn_extra: '{'\n",
            "FILE:5: conn_extra is no JSON",
        ),
        (
            "airflow:\n  connections:\n  - conn_id: a\n    conn_type: b\n    conn_extra: [1]\n",
            "FILE:5: conn_extra must be a mapping",
        ),
        (
            "airflow:\n connections:\n - conn_id: a\n   conn_type: b\n   conn_extra: {1: .nan}",
            "FILE:5: conn_extra cannot be written as JSON",
        ),
        (
            "airflow:\n  connections:\n  - conn_id: a\n    conn_uri: b\n",
            "FILE:4: conn_uri is no URI",
        ),
        (
            "airflow:\n  connections:\n  - conn_id: a\n    conn_uri: b://h:x\n",
            "FILE:4: conn_uri is no URI",
        ),
        ("airflow:\n  pools:\n  - pool_name: a\n", "FILE:3: pool_slot of 'a' is ''"),
        (
            "airflow:\n  pools:\n  - pool_name: a\n    pool_slot: -2\n",
            "FILE:4: pool_slot of 'a' is '-2'",
        ),
        (
            "airflow:\n  variables:\n  - variable_value: a\n",
            "FILE:3: an entry of `variables` has no variable_name",
        ),
        (
            "airflow:\n  variables:\n  - variable_name: a\n  - variable_name: a\n",
            "FILE:4: variable_name 'a' is in line 3 already",
        ),
        (
            "airflow:\n  variables:\n  - variable_name: a\n    variable_name: b\n",
            "FILE:3: the key 'variable_name' stands twice",
        ),
        (
            "airflow:\n  variables:\n  - variable_name: [a]\n",
            "FILE:3: variable_name must be a single value",
        ),
        (
            "airflow:\n  variables:\n  - variable_name: a\n    variable_value: '***'\n",
            "FILE:4: *** is the mask that Airflow shows in place of a secret",
        ),
        (
            "airflow:\n  variables:\n  - variable_name: a\n    variable_value: [2026-13-01]\n",
            "FILE:4: this is no YAML: month must be in 1..12",
        ),
        (
            "airflow:\n  variables:\n  - variable_name: a\n    variable_value: [!x 1]\n",
            "FILE:4: this is no YAML: could not determine a constructor",
        ),
        (
            "airflow:\n  variables:\n  - variable_name: a\n    variable_value: &a [*a]\n",
            "FILE:4: this is no YAML: found unconstructable recursive node",
        ),
        ("airflow:\n  variables:\n  - <<: 3\n", "FILE:3: this is no YAML"),
        ("airflow:\n  variables: " + "[" * 2000, "FILE:1: this is nested too deeply"),
        ("airflow:\n  variables:\n  - [[1]: 2]\n", "FILE:3: an entry of `variables`"),
        ("airflow:\n  variables:\n  - ? [1]\n    : 2\n", "FILE:3: an entry of `variables`"),
    ],
)
def test_the_complaint_about_what_cannot_be_used_names_its_line(
    file: Path, text: str, complaint: str
) -> None:
    assert refused(file, text).startswith(complaint)


def test_merged_entries_are_allowed(file: Path) -> None:
    text = """\
airflow:
  connections:
    - &first
      conn_id: first
      conn_type: http
    - <<: *first
      conn_id: second
"""
    assert [item.conn_type for item in read(file, text).connections] == ["http", "http"]


def test_bytes_that_are_no_text_cannot_be_read(file: Path) -> None:
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load(file)


def test_a_folder_in_its_place_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load(tmp_path)


def test_the_content_changes_with_a_variable_that_the_file_names(file: Path) -> None:
    file.write_text("airflow: # ${SECRET} $${OTHER}\n")
    first = content(file, environment={"SECRET": "1", "OTHER": "1"})
    assert content(file, environment={"SECRET": "1", "OTHER": "2", "UNNAMED": "2"}) == first
    assert content(file, environment={"SECRET": "2", "OTHER": "1"}) != first


def test_the_content_changes_with_the_text_only(file: Path) -> None:
    assert content(file) == ""
    file.write_text(ALL)
    first = content(file)
    file.write_text(ALL)
    assert content(file) == first != ""
    file.write_text(ALL + "\n")
    assert content(file) != first


@given(text=st.text(alphabet="airflow:- {}[]'\"\n&*<>!|${}***conn_id type_extra?,", max_size=60))
def test_any_text_is_read_or_refused_in_words(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    file = tmp_path_factory.mktemp("settings") / "airflow_settings.yaml"
    file.write_text("airflow:\n  variables:\n" + text, encoding="utf-8")
    complaint = ""
    try:
        load(file, environment={})
    except ConfigurationError as error:
        complaint = error.message
    assert not complaint or complaint.startswith(f"{file}:")
