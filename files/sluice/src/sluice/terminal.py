"""Makes text from others safe for a terminal: one place for all commands that print it.

Reasons of Slurm, names and comments of jobs, what a job or an engine said, what a file is called: whoever may
write them could clear the screen, change its title, turn lines round or make two of one. `line` and `tidy`
make one harmless line of each text; `screen` sees to all that a command prints, whatever it forgot.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast

# Controls (C0, DEL, C1), all that is invisible or turns text round (Unicode's Cf), halves of pairs, and what
# begins a line anew. Marks of direction are among them: a word of another script is shown in its own order.
UNFIT = (
    "\x00-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890-\u0891\u08e2\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\ud800-\udfff\ufeff\ufff0-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e007f"
)
_UNFIT = re.compile(f"[{UNFIT}]")
# A command's own lines and columns.
_UNFIT_IN_LINES = re.compile(f"(?![\n\t])[{UNFIT}]")
_SPACE = re.compile(r"[^\S ]+")
CLEAR = "\x1b[H\x1b[2J"


def line(text: str) -> str:
    """Return a text as one line; what is unfit for a terminal is `?`, line ends and tabs are a space."""
    return _UNFIT.sub("?", _SPACE.sub(" ", text))


def tidy(value: Any) -> Any:
    """Return a document with each of its texts as one line."""
    if isinstance(value, str):
        return line(value)
    if isinstance(value, dict):
        return {key: tidy(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [tidy(item) for item in value]
    return value


class Screen:
    """A stream that lets through no control characters but line ends and tabs, and fails for no letter."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._encoding = getattr(stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        """Write a text, made fit."""
        fit = _UNFIT_IN_LINES.sub("?", text)
        self.stream.write(fit.encode(self._encoding, "replace").decode(self._encoding))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write texts, made fit."""
        for one in lines:
            self.write(one)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextlib.contextmanager
def screen() -> Iterator[None]:
    """Make all that is printed within fit for a terminal, on standard output and standard error."""
    out, errors = cast(TextIO, Screen(sys.stdout)), cast(TextIO, Screen(sys.stderr))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        yield


def clear() -> None:
    """Clear the terminal, past `screen`."""
    stream = sys.stdout.stream if isinstance(sys.stdout, Screen) else sys.stdout
    stream.write(CLEAR)
