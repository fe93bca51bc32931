"""Makes text from others safe for a terminal: for all commands that print it.

Slurm's reasons, names and comments of jobs, output of jobs and engines, file names: with control characters,
whoever writes them could clear the screen, change the window's title, reverse text or fake a line. `line` and
`tidy` make one safe line of each text. `safe_output` covers everything that a command prints.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast

# Control characters (C0, DEL, C1), invisible and direction-changing characters (Unicode's Cf), halves of
# surrogate pairs, and line separators. Without direction marks, other scripts still show in their own order.
UNFIT = (
    "\x00-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890-\u0891\u08e2\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\ud800-\udfff\ufeff\ufff0-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e007f"
)
_UNFIT = re.compile(f"[{UNFIT}]")
# Commands print line ends and tabs themselves.
_UNFIT_IN_LINES = re.compile(f"(?![\n\t])[{UNFIT}]")
_SPACE = re.compile(r"[^\S ]+")
CLEAR = "\x1b[H\x1b[2J"


def line(text: str) -> str:
    """Return a text as one line: line ends and tabs become a space, other unsafe characters `?`."""
    return _UNFIT.sub("?", _SPACE.sub(" ", text))


def tidy(value: Any) -> Any:
    """Return a document in which each text is one safe line."""
    if isinstance(value, str):
        return line(value)
    if isinstance(value, dict):
        return {key: tidy(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [tidy(item) for item in value]
    return value


class SafeStream:
    """A text stream that replaces control characters, except line ends and tabs, and unencodable letters."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._encoding = getattr(stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        """Write a text, made safe."""
        fit = _UNFIT_IN_LINES.sub("?", text)
        self.stream.write(fit.encode(self._encoding, "replace").decode(self._encoding))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write texts, made safe."""
        for one in lines:
            self.write(one)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextlib.contextmanager
def safe_output() -> Iterator[None]:
    """Make everything safe that is printed inside, on standard output and standard error."""
    out, errors = cast(TextIO, SafeStream(sys.stdout)), cast(TextIO, SafeStream(sys.stderr))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        yield


def clear() -> None:
    """Clear the terminal, also within `safe_output`."""
    stream = sys.stdout.stream if isinstance(sys.stdout, SafeStream) else sys.stdout
    stream.write(CLEAR)
