"""Whatever a person may drop into the DAG folder, as hypothesis draws it."""

from __future__ import annotations

import io
import os
import socket
import tarfile
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from hypothesis import strategies as st

from tests.e2e.folder import dag_source

if TYPE_CHECKING:
    from pathlib import Path

Kind = Literal["file", "link", "fifo", "socket", "folder"]
NAME_BYTES = 255
"""The longest name that Linux' file systems take."""


@dataclass(frozen=True)
class Entry:
    """One thing of a tree.

    Attributes:
        path: Its names, from the DAG folder on.
        content: Of a file; the target of a link.
        mode: Its permissions; those of a link cannot be changed.
    """

    path: tuple[bytes, ...]
    kind: Kind
    content: bytes
    mode: int

    def plant(self, folder: Path) -> None:
        """Make it, if what the tree has already lets it be there."""
        place = folder.joinpath(*map(os.fsdecode, self.path))
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            self._make(place)
            if self.kind != "link":
                place.chmod(self.mode)
        except OSError:
            return  # A file where a folder is wanted, a path that is too long: no person gets it.

    def _make(self, place: Path) -> None:
        match self.kind:
            case "file":
                with place.open("xb") as file:  # To open a FIFO of that name would wait for ever.
                    file.write(self.content)
            case "link":
                place.symlink_to(os.fsdecode(self.content))
            case "fifo":
                os.mkfifo(place)
            case "folder":
                place.mkdir()
            case "socket":
                with socket.socket(socket.AF_UNIX) as listener:
                    listener.bind(bytes(place))


def _zip(names: list[str], content: bytes, *, cut: int) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, content)
    whole = data.getvalue()
    return whole[: len(whole) - cut]


def _tar(content: bytes) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        member = tarfile.TarInfo("dag.py")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return data.getvalue()


FOLDERS = ["team", "team/sub", "plugins", "include", "tests", "pkg.zip", "a.py", ".hidden", "ünter"]
NAMES = [
    *[
        "dag.py",
        "b.py",
        "helper.py",
        "__init__.py",
        "conftest.py",
        ".py",
        "UPPER.PY",
        "with space.py",
    ],
    *["new\nline.py", "quote'\".py", "-rf.py", "ä.py", "a\u0308.py", "\u202egnp.py", "%s{}.py"],
    *[
        "dag.zip",
        "dag.egg",
        "dag.pyc",
        "dag.ipynb",
        "data.yaml",
        "flag.txt",
        "core",
        "a" * 252 + ".py",
    ],
    *[".airflowignore", ".windsockignore", ".gitignore", "pyproject.toml", "requirements.txt"],
    *["airflow.py", "json.py", "typing.py", "windsock", "dags.py", "sitecustomize.py"],
]
"""Names that mean something to Python, to Airflow, to a shell or to a file system."""

MODULES: list[str | bytes] = [
    dag_source("drawn"),
    dag_source("drawn", top="raise ValueError('no')"),
    dag_source("drawn", top="import helper"),
    dag_source("drawn").replace("\n", "\r\n"),
    dag_source("drawn", top="# ä").encode("latin-1"),
    dag_source("drawn").encode("utf-16"),
    "\ufeff" + dag_source("drawn"),
    dag_source("drawn", top="raise ValueError('\\x00 \\udcff \\U0001f600')"),
    dag_source("drawn", top="raise ValueError('x' * 3_000_000)"),
    dag_source("drawn", top="raise ExceptionGroup('g', [ValueError('a'), KeyError('b')])"),
    dag_source("x" * 251),
    dag_source("od\udcffd".encode("ascii", "backslashreplace").decode()),
    dag_source("drawn", ["t" * 251]),
    dag_source("drawn", {"only": "return '\\x00'"}, top="DAG_DOC = '\\x00'"),
    'from airflow.sdk import DAG\nd = DAG("n", description="\\x00", tags=["\\udc80"])\n',
    "from airflow.sdk import DAG\nfor n in range(40):\n    globals()[f'd{n}'] = DAG(f'many_{n}')\n",
    "from airflow.sdk import DAG\nd = DAG('p', params={'a': object()})\n",
    "from airflow.sdk import DAG\nd = DAG('s', schedule='every so often')\n",
    "from airflow.sdk import DAG\nprint('dag' * 50_000)\nd = DAG('prints')\n",
    "from airflow.sdk import dag\nimport sys\nsys.exit('enough')\n",
    "from airflow.sdk import dag\nimport os\nos._exit(3)\n",
    "from airflow.sdk import dag\nimport os\nos.closerange(0, 64)\n",
    "from airflow.sdk import dag\ndef f():\n    f()\nf()\n",
    "from airflow.sdk import dag\nimport sys\nsys.modules.clear()\n",
    "from airflow.sdk import dag\nimport os\nos.chdir('/'); os.environ.clear()\n",
    "from airflow.sdk import dag\nclass E(BaseException):\n    pass\nraise E\n",
    "# airflow dag\nclass E(Exception):\n    def __str__(self):\n        raise self\nraise E\n",
    "# airflow dag\n" + "x = (" * 300,
    "# airflow dag\n\0",
    "# -*- coding: nonsense -*-\n# airflow dag\n",
    "helper = 1\n",
    "",
]
IGNORES = [
    *[
        "!",
        "helpers\\",
        "*",
        "**",
        "[",
        "[z-a]",
        "\\",
        "/",
        "!*",
        "(",
        "*.py\n!b.py",
        "(?P<a>",
        "\0",
        "{",
    ],
    "#\n\n  \n",
]


def _encoded(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")


modules = st.sampled_from([_encoded(module) for module in MODULES])
ignores = st.sampled_from([_encoded(line) for line in IGNORES]).flatmap(
    lambda line: st.sampled_from([line, line.decode().encode("utf-16"), line + b"\xff\xfe"])
)
archives = st.one_of(
    st.builds(
        _zip,
        st.lists(
            st.sampled_from(["dag.py", "a/b.py", "../up.py", "/abs.py", "x", "ä.py"]),
            max_size=3,
            unique=True,
        ),
        modules,
        cut=st.sampled_from([0, 0, 1, 20]),
    ),
    st.builds(_tar, modules),
)
contents = st.one_of(modules, modules, ignores, archives, st.binary(max_size=200))
names = st.one_of(
    st.sampled_from(NAMES).map(os.fsencode),
    st.sampled_from(NAMES).map(os.fsencode),
    st.binary(min_size=1, max_size=NAME_BYTES).filter(
        lambda name: name not in {b".", b".."} and not set(name) & {0, ord("/")}
    ),
)
folders = st.sampled_from(["", "", "", *FOLDERS]).map(
    lambda folder: tuple(os.fsencode(name) for name in folder.split("/") if name)
)
targets = st.sampled_from(
    [
        *[
            b".",
            b"..",
            b"../team",
            b"team",
            b"../include",
            b"include",
            b"dag.py",
            b"nowhere",
            b"/etc/passwd",
            b"/",
            b"/dev/zero",
        ],
        *[b"loop", b"tiny.py", b"x" * 300, b"team/sub", b"./../dags", b"\xff"],
    ]
)
modes = st.sampled_from([0o644, 0o644, 0o644, 0o755, 0o000, 0o200, 0o7777])


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    """One entry; most are files."""
    kind: Kind = draw(
        st.sampled_from(
            ["file", "file", "file", "file", "file", "link", "link", "fifo", "socket", "folder"]
        )
    )
    path = (*draw(folders), draw(names))
    content = draw(targets if kind == "link" else contents) if kind in ("file", "link") else b""
    if kind == "file" and path[-1] in {b".airflowignore", b".windsockignore", b".gitignore"}:
        # Below a folder: at the top, a pattern may leave out all files, as its author wants.
        path = (b"team", path[-1])
        content = draw(st.one_of(ignores, st.binary(max_size=40)))
    return Entry(path=path, kind=kind, content=content, mode=draw(modes))


trees = st.lists(entries(), min_size=1, max_size=8)
