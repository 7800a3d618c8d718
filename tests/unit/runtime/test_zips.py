from __future__ import annotations

from windsock.runtime.zips import under_one_name


def test_the_error_of_a_file_keeps_its_name() -> None:
    assert under_one_name({}, "a.py") == {}
    assert under_one_name({"a.py": "no\n"}, "a.py") == {"a.py": "no\n"}


def test_the_files_of_a_zip_are_told_under_its_name() -> None:
    errors = {"/snapshot/a.zip/one.py": "KeyError: 1\n", "/snapshot/a.zip/two.py": "KeyError: 2\n"}
    assert under_one_name(errors, "a.zip") == {
        "a.zip": "KeyError: 1\ntwo.py in a.zip does not import either\n"
    }
