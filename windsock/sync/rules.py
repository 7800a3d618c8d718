"""Which paths travel: what editors and version control leave behind does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pathspec import GitIgnoreSpec

from windsock.errors import ConfigurationError

if TYPE_CHECKING:
    import re
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
"""How many answers are remembered: a scan asks for the same paths every time."""


class Rules:
    """The rules of one folder, fixed until they are loaded again.

    Args:
        lines: Patterns in gitignore syntax; later ones win.

    Raises:
        ValueError: A pattern that gitignore does not know.
    """

    def __init__(self, lines: tuple[str, ...] = DEFAULTS) -> None:
        self.lines = lines
        self._patterns = [
            pattern
            for pattern in reversed(list(GitIgnoreSpec.from_lines(lines).patterns))
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
            text = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            text = b""
        except OSError as error:
            raise ConfigurationError(
                f"{path} cannot be read: {error.strerror}", "Make it a readable file."
            ) from None
        if known is not None and known._text == text:  # noqa: SLF001 - our own class
            return known
        rules = cls(DEFAULTS + _checked_lines(text, path=path))
        rules._text = text
        return rules

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rules) and self.lines == other.lines

    def __hash__(self) -> int:
        return hash(self.lines)

    def ignores(self, path: str, *, is_directory: bool) -> bool:
        """Whether a path stays behind. A folder that does is not looked into at all.

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
        """Ask the last pattern that matches the path *itself*, as git does.

        pathspec's own `match_file` also counts a match of a folder above; but those have been asked
        about before we got here, and with negated patterns the answer could be another one.
        """
        for pattern in self._patterns:
            result = pattern.match_file(asked)
            if result is not None and _is_itself(result.match, asked, is_directory=is_directory):
                return bool(pattern.include)
        return False

    def ignores_below(self, path: str) -> bool:
        """Whether a file stays behind because of its own name or a folder's above it."""
        parts = path.split("/")
        return any(
            self.ignores("/".join(parts[:end]), is_directory=end < len(parts))
            for end in range(1, len(parts) + 1)
        )


def _is_itself(match: re.Match[str], asked: str, *, is_directory: bool) -> bool:
    """Whether a pattern's match is of the path, and not only of a folder above it.

    In pathspec's expressions the only named group is the `/` that ends the folder which matched.
    """
    if match.lastgroup is None:
        # `x/**` is all below x, and not x itself.
        return not is_directory or match.end() < len(asked)
    only_the_mark = match.start() == match.start(match.lastgroup)  # `*/` is any folder
    return match.end() == len(asked) or (only_the_mark and is_directory)


def _checked_lines(text: bytes, *, path: Path) -> tuple[str, ...]:
    lines = []
    for number, raw in enumerate(text.removeprefix(b"\xef\xbb\xbf").splitlines(), start=1):
        try:
            line = raw.decode("utf-8")
            GitIgnoreSpec.from_lines([line])
        except ValueError as error:  # a UnicodeDecodeError is one, and so is pathspec's own
            reason = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
            raise ConfigurationError(
                f"{path}, line {number} is no pattern: {reason}",
                "Write patterns in gitignore syntax, one a line.",
            ) from None
        lines.append(line)
    return tuple(lines)
