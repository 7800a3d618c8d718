"""The paths that are not synced, such as those of editors and of version control."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pathspec import GitIgnoreSpec

from windsock.errors import ConfigurationError
from windsock.files import content, decoded

if TYPE_CHECKING:
    from pathlib import Path

IGNORE_FILE = ".windsockignore"

DEFAULTS = (
    # version control, and windsock's own
    ".git",
    ".hg",
    ".svn",
    ".jj",
    ".windsock/",
    "/.windsockignore",
    # what only `okteto up` reads
    "/.stignore",
    # what Python and its tools write
    "__pycache__/",
    "*.py[cod]",
    ".mypy_cache/",
    ".pytest_cache/",
    ".ruff_cache/",
    ".ipynb_checkpoints/",
    ".venv/",
    "node_modules/",
    # editors: swap, backup, lock and half-written files
    "*.sw[a-p]",
    "*~",
    ".#*",
    "\\#*#",
    "4913",
    "*.tmp",
    "*___jb_*___",
    ".goutputstream-*",
    ".~lock.*#",
    "*.kate-swp",
    ".idea/",
    ".vscode/",
    # systems
    ".DS_Store",
    "._*",
    ".nfs*",
    ".fuse_hidden*",
)
"""In gitignore syntax; a negated pattern in `.windsockignore` takes one back."""

REMEMBERED = 200_000
"""The number of answers in the cache: each scan asks for the same paths."""


class Rules:
    """The rules of one folder.

    Args:
        lines: Patterns in gitignore syntax; later ones win.

    Raises:
        ValueError: A pattern that gitignore does not know.
    """

    def __init__(self, lines: tuple[str, ...] = DEFAULTS) -> None:
        self.lines = lines
        said = [line for line in lines if line]  # pathspec makes no pattern of an empty line.
        patterns = zip(GitIgnoreSpec.from_lines(said).patterns, said, strict=True)
        self._patterns = [
            (pattern, line)
            for pattern, line in reversed(list(patterns))
            if pattern.include is not None
        ]
        self._answers: dict[str, bool] = {}
        self._text = b""

    @classmethod
    def load(cls, root: Path, *, known: Rules | None = None) -> Rules:
        """The defaults and `.windsockignore` of the folder, if it has one.

        Args:
            root: The folder.
            known: Rules loaded before, given back if the file has not changed since.

        Raises:
            ConfigurationError: The file is no UTF-8 text, unreadable, or has a broken pattern.
        """
        path = root / IGNORE_FILE
        try:
            text = content(path)
        except (FileNotFoundError, NotADirectoryError):
            text = b""
        except OSError as error:
            raise ConfigurationError(
                f"{path} cannot be read: {error.strerror or error}", "Make it a readable file."
            ) from None
        if known is not None and known._text == text:  # noqa: SLF001 - our own class
            return known
        rules = cls(DEFAULTS + _checked_lines(text, path=path))
        rules._text = text
        return rules

    @property
    def are_own(self) -> bool:
        """Whether `.windsockignore` has anything in it."""
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rules) and self.lines == other.lines

    def __hash__(self) -> int:
        return hash(self.lines)

    def ignores(self, path: str, *, is_directory: bool) -> bool:
        """Whether a path is not synced; nothing below an ignored folder is.

        Args:
            path: Relative to the folder, with `/`.
            is_directory: Patterns that end with `/` only match folders.
        """
        asked = path + "/" if is_directory else path
        answer = self._answers.get(asked)
        if answer is None:
            if len(self._answers) >= REMEMBERED:
                self._answers.clear()
            answer = self._answers[asked] = self._decide(asked, is_directory=is_directory)
        return answer

    def _decide(self, asked: str, *, is_directory: bool) -> bool:
        """The answer of the last pattern that matches the path *itself*, as in git.

        pathspec's own `match_file` counts a match of a folder above, too. Those were asked about
        before, and with negated patterns the answer may be another one.
        """
        for pattern, _ in self._patterns:
            result = pattern.match_file(asked)
            if result is not None and _is_itself(result.match, asked, is_directory=is_directory):
                return bool(pattern.include)
        return False

    def own_line(self, path: str, *, is_directory: bool) -> str:
        """The line of `.windsockignore` that leaves out a path; empty if none does.

        Args:
            path: As of `ignores`.
            is_directory: As of `ignores`.
        """
        asked = path + "/" if is_directory else path
        own = self.lines[len(DEFAULTS) :]
        for pattern, line in self._patterns:
            result = pattern.match_file(asked)
            if result is not None and _is_itself(result.match, asked, is_directory=is_directory):
                return line if pattern.include and line in own else ""
        return ""

    def own_line_above(self, path: str) -> str:
        """The same of a file, or of a folder above it."""
        parts = path.split("/")
        lines = (
            self.own_line("/".join(parts[:end]), is_directory=end < len(parts))
            for end in range(1, len(parts) + 1)
        )
        return next(filter(None, lines), "")

    def ignores_below(self, path: str) -> bool:
        """Whether a file, or a folder above it, is ignored."""
        parts = path.split("/")
        return any(
            self.ignores("/".join(parts[:end]), is_directory=end < len(parts))
            for end in range(1, len(parts) + 1)
        )


def _is_itself(match: re.Match[str], asked: str, *, is_directory: bool) -> bool:
    """Whether a pattern matches the path, and not only a folder above it.

    In pathspec's expressions the only named group is the `/` after the folder that matched.
    """
    if match.lastgroup is None:
        # `x/**` is all below x, and not x itself.
        return not is_directory or match.end() < len(asked)
    only_the_mark = match.start() == match.start(match.lastgroup)  # `*/` is any folder
    return match.end() == len(asked) or (only_the_mark and is_directory)


def _checked_lines(text: bytes, *, path: Path) -> tuple[str, ...]:
    lines = []
    for number, line in enumerate(re.split(r"\r\n|\r|\n", decoded(text)), start=1):
        if reason := _objection(line):
            raise ConfigurationError(
                f"{path}, line {number} is no pattern: {reason}",
                "Write patterns in gitignore syntax, one a line, as UTF-8.",
            )
        lines.append(line)
    return tuple(lines if lines[-1] else lines[:-1])


def _objection(line: str) -> str:
    """Why a line is no pattern; empty if it is one."""
    try:
        line.encode("utf-8")
        GitIgnoreSpec.from_lines([line])
    except UnicodeEncodeError:
        return "it is not UTF-8"
    except (ValueError, re.error) as error:  # pathspec's own errors are a ValueError
        return str(error)
    return "it has a NUL byte" if "\0" in line else ""
