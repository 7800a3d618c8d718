from __future__ import annotations

from dev import troubleshooting


def test_the_page_has_the_errors_of_the_code() -> None:
    committed = troubleshooting.PAGE.read_text(encoding="utf-8")
    assert committed == troubleshooting.page(), "run `invoke docs.troubleshooting`"


def test_an_error_is_there_with_its_remedy_and_with_names_for_what_is_put_in() -> None:
    page = troubleshooting.page()
    assert (
        "- **no environment is up here**\\\n  Run `invoke up` (or `invoke up --detach`) first.\n"
    ) in page
    assert "See \\<run url>" in page
    assert "It has been stopped. See \\<url>" in page
    assert "**the password file cannot be read: \\<error>**" in page
    assert len(set(troubleshooting.collect())) > 100
