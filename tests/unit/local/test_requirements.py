"""The project's own requirements: whatever a person may write, and Windows, pip or an editor."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windsock.errors import ConfigurationError
from windsock.local.requirements import included, read_requirements

if TYPE_CHECKING:
    from pathlib import Path


def lines(file: Path) -> list[str]:
    return read_requirements(file).text.splitlines()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "requirements.txt"


@pytest.mark.parametrize(
    "encoding",
    ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"],
)
def test_any_unicode_encoding_is_read(file: Path, encoding: str) -> None:
    file.write_bytes("windy==1.0  # größer\r\ncloudy\r\n".encode(encoding))
    if encoding == "utf-32-be":
        file.write_bytes(b"\0\0\xfe\xff" + file.read_bytes())
    assert lines(file) == ["windy==1.0", "cloudy"]


def test_other_encodings_are_named_in_the_file_or_only_in_comments(file: Path) -> None:
    file.write_bytes("# größer\nwindy\n".encode("latin-1"))
    assert lines(file) == ["windy"]
    file.write_bytes("# -*- coding: latin-1 -*-\n./größer.whl\n".encode("latin-1"))
    assert lines(file) == ["./größer.whl"]
    file.write_bytes("windy\n./größer.whl\n".encode("latin-1"))
    with pytest.raises(ConfigurationError, match="line 2 is in an encoding"):
        lines(file)
    file.write_bytes(b"# coding: nonsense\nwindy\n")
    with pytest.raises(ConfigurationError, match="first lines say"):
        lines(file)


def test_included_files_are_put_in_their_places_and_each_once(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHERE", "sub")
    folder = file.parent / "sub"
    folder.mkdir()
    file.write_text(
        "windy\n-r sub/more.txt\n--constraint 'sub/has space.txt'\n-r ${WHERE}/more.txt\ncloudy\n"
    )
    (folder / "more.txt").write_bytes(
        'stormy\n-c"has space.txt"\n-r ../last.txt\n'.encode("utf-16")
    )
    (folder / "has space.txt").write_text("windy<2\n-c ../deeper.txt\n")
    (file.parent / "deeper.txt").write_text("cloudy<3\n")
    (file.parent / "last.txt").write_text("-r requirements.txt\nfoggy\n--pre\n--pre\n")
    found = read_requirements(file)
    assert found.text.splitlines() == ["windy", "stormy", "foggy", "--pre", "cloudy"]
    assert found.constraints.splitlines() == ["windy<2", "cloudy<3"]
    names = ["requirements.txt", "sub/more.txt", "sub/has space.txt", "deeper.txt", "last.txt"]
    assert found.files == tuple(file.parent / name for name in names)
    assert included(file) == found.files


def test_lines_that_go_on_and_options_stay_as_they_are(file: Path) -> None:
    file.write_text(
        "windy==1.0 \\\n    --hash=sha256:ab \\\n    --hash=sha256:cd\n# off \\\ncloudy\n"
        "--extra-index-url https://x/#simple\n-e ./here\n-r https://x/more.txt\nlast\\"
    )
    assert lines(file) == [
        "windy==1.0     --hash=sha256:ab     --hash=sha256:cd",
        "cloudy",
        "--extra-index-url https://x/#simple",
        "-e ./here",
        "-r https://x/more.txt",
        "last",
    ]


def test_a_file_that_is_not_there_is_named_with_the_line_that_includes_it(file: Path) -> None:
    assert read_requirements(file).text == ""
    assert read_requirements(file).files == (file,)
    file.write_text("# x\nwindy\n--requirement=more.txt\n")
    with pytest.raises(ConfigurationError, match=r"requirements\.txt, line 3 includes more\.txt"):
        read_requirements(file)
    assert included(file) == (file, file.with_name("more.txt"))  # It may come.
    file.write_text("-r 'more.txt\n")
    with pytest.raises(ConfigurationError, match="line 1 is malformed"):
        read_requirements(file)


def test_what_is_no_file_is_an_error_and_not_waited_for(file: Path) -> None:
    os.mkfifo(file.with_name("pipe"))
    for name in ("pipe", "."):
        file.write_text(f"-r {name}\n")
        with pytest.raises(ConfigurationError, match="cannot be read"):
            read_requirements(file)


@settings(max_examples=200, deadline=None)
@given(
    content=st.one_of(
        st.binary(max_size=40),
        st.lists(st.sampled_from([b"-r", b" ", b"x", b"'", b"=", b"\n", b"\\", b"#"])).map(
            b"".join
        ),
    )
)
def test_any_bytes_are_requirements_or_an_error_in_words(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    file = tmp_path_factory.mktemp("any") / "requirements.txt"
    file.write_bytes(content)
    try:
        read_requirements(file).text.encode("utf-8")
    except ConfigurationError:
        assert file in included(file)
