"""What Invoke's command line lacks: optional positional arguments, and words for wrong values.

`invoke logs`, `invoke logs scheduler`: Invoke's parser (3.0) knows positional arguments only as
required, single words. A task made with `@task(klass=LenientTask)` takes a positional parameter
that has a default as optional, and one that is also in `iterable` any number of times.

A flag or an `INVOKE_*` variable of the wrong type would end in Invoke's own traceback; here it
becomes a sentence, whatever the class of the task.
"""

from __future__ import annotations

import inspect
from typing import Any

from invoke import Exit, Task
from invoke.env import Environment as VariableLoader
from invoke.exceptions import UncastableEnvVar
from invoke.parser import Argument
from invoke.parser.parser import ParseMachine

from windsock.errors import ConfigurationError


class OptionalWord(Argument):
    """A positional argument with room for a word until the parser is done with its task."""

    done = False

    @property
    def value(self) -> Any:
        """None, which to the parser means room for a word, until `done`; then the word or ''."""
        return "" if self.done and self.raw_value is None else super().value

    @value.setter
    def value(self, word: str) -> None:
        self.set_value(word, cast=True)


class OptionalWords(OptionalWord):
    """The same, for any number of words: there is always room for another."""

    words: tuple[str, ...] = ()

    @property
    def value(self) -> Any:
        """None until `done`; then all words."""
        return list(self.words) if self.done else None

    @value.setter
    def value(self, word: str) -> None:
        self.words = (*self.words, word)


class LenientTask(Task[Any]):
    """A task whose positional parameters with a default may be left out."""

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        """The arguments for the parser."""
        parameters = inspect.signature(self.body).parameters
        arguments = []
        for item in super().get_arguments(ignore_unknown_help=ignore_unknown_help):
            name = str(item.attr_name or item.name)
            if item.positional and parameters[name].default is not inspect.Parameter.empty:
                kind = OptionalWords if name in self.iterable else OptionalWord
                item = kind(  # noqa: PLW2901 - the original is not needed any more
                    names=item.names, help=item.help, positional=True, attr_name=item.attr_name
                )
            arguments.append(item)
        return arguments


_complete_context = ParseMachine.complete_context


def complete_context(parser: ParseMachine) -> None:
    """End the parsing of a task: what had room for a word until now is left out."""
    if parser.context is not None:
        for item in parser.context.positional_args:
            if isinstance(item, OptionalWord):
                item.done = True
    _complete_context(parser)


_set_value = Argument.set_value


def set_value(argument: Argument, value: Any, cast: bool = True) -> None:
    """Take a flag's value; one of the wrong type ends the command."""
    try:
        _set_value(argument, value, cast)
    except ValueError:
        kind = "a whole number" if argument.kind is int else "a number"
        message = f"--{argument.name} is {value!r}: it must be {kind}"
        raise Exit(message, code=ConfigurationError.exit_code) from None


_cast = VariableLoader._cast  # noqa: SLF001 - see below


def cast_or_keep(loader: VariableLoader, old: Any, new: Any) -> Any:
    """The value of an `INVOKE_*` variable; `windsock.config` reads it, or refuses it, later.

    Invoke itself takes every word but `0` for true, `false` too.
    """
    if isinstance(old, bool) and new not in {"0", ""}:
        return new
    try:
        return _cast(loader, old, new)
    except (ValueError, UncastableEnvVar):
        return new


# Invoke makes its parser, its arguments and its loader itself: their methods are the only seams.
ParseMachine.complete_context = complete_context  # type: ignore[assignment, method-assign]
Argument.set_value = set_value  # type: ignore[assignment, method-assign]
VariableLoader._cast = cast_or_keep  # type: ignore[assignment, method-assign] # noqa: SLF001
