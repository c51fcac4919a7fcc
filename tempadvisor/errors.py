"""What can go wrong, as one small tree.

```
TempAdvisorError      anything tempadvisor itself refuses; the CLI turns it into one line and exit code 2
├── UsageError        flags or arguments that are missing, unknown or contradict each other
├── InputError        a file or array that is missing, unreadable or means something else than it should
│   └── ClassOrderError   a teacher whose outputs are not the classes of the labels, in their order
├── OutOfScopeError   a task that temperature advice does not cover: refused by name
└── KnowledgeError    a knowledge file (rules, sources, literature, runs) that breaks its schema
```

Each error carries a `code`, a short stable word for scripts, beside its message. A message says what must
be what, what was got, where, and what to do next, in one line.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterable
from typing import Any


class TempAdvisorError(Exception):
    """Refuse to go on, with a one-line message and a stable `code`.

    Control characters in `message` (class names and file names are other people's text) are escaped, so that
    nothing a user hands over can move the cursor or break the line.

    >>> str(InputError("x.npy is empty.\\x1b[2J", code="empty"))
    'x.npy is empty.\\\\x1b[2J'
    """

    def __init__(self, message: str, *, code: str) -> None:
        self.code = code
        super().__init__(one_line(message))

    def __reduce__(self) -> tuple[Any, ...]:
        """Come back whole from another process."""
        return functools.partial(type(self), code=self.code), self.args


class UsageError(TempAdvisorError):
    """Flags or arguments are missing, unknown or contradict each other."""


class InputError(TempAdvisorError):
    """A file or array is missing, unreadable, or not what it should be."""


class ClassOrderError(InputError):
    """A teacher's outputs are not the classes of the labels, in their order.

    `columns` is the output that seems to stand for each class, and `accuracy` what the teacher has with them; without
    columns none do.
    """

    def __init__(
        self, message: str, *, code: str, columns: tuple[int, ...] | None = None, accuracy: float | None = None
    ) -> None:
        self.columns, self.accuracy = columns, accuracy
        super().__init__(message, code=code)

    def __reduce__(self) -> tuple[Any, ...]:
        """Come back whole from another process."""
        made = functools.partial(type(self), code=self.code, columns=self.columns, accuracy=self.accuracy)
        return made, self.args


class OutOfScopeError(TempAdvisorError):
    """The task is one that this advice does not cover."""


class KnowledgeError(TempAdvisorError):
    """A knowledge file breaks its schema."""


def one_line(text: str) -> str:
    """Return `text` with line breaks folded to spaces and control characters escaped.

    >>> one_line("a\\nb\\x07")
    'a b\\\\x07'
    """
    folded = " ".join(text.split("\n"))
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in folded)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a hint that names the nearest known word, or all known words when none is near.

    >>> did_you_mean("optimiser", ["optimizer", "epochs"])
    'Did you mean optimizer?'
    >>> did_you_mean("zzz", ["optimizer", "epochs"])
    'Known: epochs, optimizer.'
    """
    words = sorted(known)
    by_lower = {word.lower(): word for word in words}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1)
    return f"Did you mean {by_lower[near[0]]}?" if near else f"Known: {', '.join(words)}."
