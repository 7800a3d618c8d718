from __future__ import annotations

from typing import Any

import pytest

from windsock.local import index
from windsock.local.index import index_settings, parse_pip_config


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What pip says it is configured to do."""
    told: dict[str, str] = {}

    def settings(_environment: Any) -> dict[str, str]:
        return told

    monkeypatch.setattr(index, "pip_settings", settings)
    return told


def test_pip_settings_are_read_and_the_environment_wins() -> None:
    text = (
        ":env:.find-links='/wheels'\n"
        "global.extra-index-url='file:///a file:///b'\n"
        "global.index-url='https://one.example/simple'\n"
        'install.index-url="https://two.example/it\'s"\n'
        "global.find-links='/others'\n"
        "download.index-url='https://not.example'\n"
        "global.nonsense\n"
        "global.broken='\n"
    )
    assert parse_pip_config(text) == {
        "find-links": "/wheels",
        "extra-index-url": "file:///a file:///b",
        "index-url": "https://two.example/it's",
    }


def test_pip_itself_is_asked(tmp_path: Any) -> None:
    file = tmp_path / "pip.conf"
    file.write_text("[global]\nindex-url = https://mirror.example/simple\ntimeout = 7\n")
    environment = {"PIP_CONFIG_FILE": str(file), "PIP_FIND_LINKS": "/wheels", "HOME": str(tmp_path)}
    found = index.pip_settings(environment)
    assert found["index-url"] == "https://mirror.example/simple"
    assert found["find-links"] == "/wheels"
    assert found["timeout"] == "7"


def test_pips_places_become_uvs(pip: dict[str, str]) -> None:
    pip |= {
        "index-url": "https://mirror.example/simple",
        "extra-index-url": "https://a.example\nhttps://b.example",
        "find-links": "/one /two",
        "trusted-host": "mirror.example",
        "cert": "/certificates.pem",
        "timeout": "60",
    }
    assert index_settings({}) == {
        "UV_DEFAULT_INDEX": "https://mirror.example/simple",
        "UV_INDEX": "https://a.example https://b.example",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": "/one,/two",
        "UV_INSECURE_HOST": "mirror.example",
        "SSL_CERT_FILE": "/certificates.pem",
        "UV_HTTP_TIMEOUT": "60",
        "UV_SYSTEM_CERTS": "true",
    }


def test_pip_without_an_index_means_uv_without_one(pip: dict[str, str]) -> None:
    pip |= {"no-index": "true", "find-links": "/wheels"}
    found = index_settings({})
    assert found["UV_NO_INDEX"] == "true"
    assert found["UV_FIND_LINKS"] == "/wheels"


def test_who_told_uv_where_packages_are_is_not_overruled(pip: dict[str, str]) -> None:
    pip |= {"index-url": "https://pip.example", "find-links": "/pip", "cert": "/pip.pem"}
    found = index_settings({"UV_INDEX": "https://uv.example", "SSL_CERT_FILE": "/mine.pem"})
    assert found == {"UV_SYSTEM_CERTS": "true"}


def test_without_any_setting_only_the_systems_certificates_are_asked_for(
    pip: dict[str, str],
) -> None:
    assert pip == {}
    assert index_settings({}) == {"UV_SYSTEM_CERTS": "true"}
    assert index_settings({"UV_NATIVE_TLS": "false"}) == {}
