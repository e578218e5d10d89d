"""Text that cannot print."""

from __future__ import annotations

from typing import NoReturn

_REDACTED = "[redacted]"


class Secret:
    """A text that cannot print: str, repr, format and logging show "[redacted]", and it does not
    pickle. reveal() returns what it holds."""

    __slots__ = ("_reveal",)

    def __init__(self, value: str) -> None:
        self._reveal = lambda: value  # a function shows nothing of what it holds

    def reveal(self) -> str:
        """The secret itself, to be sent and to be kept nowhere."""
        return self._reveal()

    def __repr__(self) -> str:
        return _REDACTED

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return _REDACTED

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret does not pickle")


def revealed(s: Secret | str) -> str:
    """The text of a secret, or of a str that was given as one."""
    return s.reveal() if isinstance(s, Secret) else s
