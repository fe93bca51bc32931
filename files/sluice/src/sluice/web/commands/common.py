"""What the gateway's commands share: the site's settings and database, and their output."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy.exc import SQLAlchemyError

from sluice import administrator, terminal
from sluice.errors import ConfigError
from sluice.web.admin import audit
from sluice.web.database.tables import Database
from sluice.web.settings.config import DEFAULT_PATH, WebConfig, load
from sluice.web.words import times
from sluice.web.words.texts import Texts
from sluice.web.words.validation import ValidationError

WRONG_ARGUMENT = 2
NOT_FOUND = 1

# Bounds of `--most` and of the ids in tables.
MAX_ROWS = 1_000_000
LARGEST_ID = (1 << 31) - 1


class Context(NamedTuple):
    """The opened configuration and database of a command, and its `actor` in the audit log."""

    settings: WebConfig
    database: Database
    actor: str


Action = Callable[[argparse.Namespace, Context], int]


def add_common(parser: argparse.ArgumentParser, *, as_json: bool = True) -> None:
    """Add `--config` and, with `as_json`, `--json`."""
    parser.add_argument("--config", default=DEFAULT_PATH, help="web's configuration (default: %(default)s)")
    if as_json:
        parser.add_argument("--json", action="store_true", help="print a JSON document, for programs")


def add_most(parser: argparse.ArgumentParser) -> None:
    """Add `--most`, how many rows a list has at most."""
    help_ = "how many (default: %(default)s)"
    parser.add_argument("--most", type=whole_number(1, MAX_ROWS), default=100, help=help_)


@contextmanager
def open_context(config: str) -> Iterator[Context]:
    """Open settings and database; root first becomes the account that owns them. Raises ConfigError."""
    settings = load(config)
    # Before root becomes another account.
    actor = audit.operator(administrator.name())
    become_owner(settings.session_dir)
    database = Database(settings.database)
    try:
        database.prepare()
        yield Context(settings, database, actor)
    except SQLAlchemyError as error:
        # The text of such an error quotes the statement with its values.
        fault = type(getattr(error, "orig", None) or error).__name__
        raise ConfigError(
            f"the database refused the command ({fault}): it is locked, full, read-only or "
            "unavailable, or a value is not allowed; nothing was changed"
        ) from None
    finally:
        database.close()


@contextmanager
def until_the_pipe_closes() -> Iterator[None]:
    """Print until whoever reads standard output has read enough."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # Flushing the rest at exit must not fail a second time.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """Return a type for argparse: a whole number from `least` to `most`."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a whole number") from None
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"{text[:40]} is not from {least} to {most}")
        return number

    return read


def run_action(args: argparse.Namespace, actions: Mapping[str, Action]) -> int:
    """Run the action that was asked for with settings and database; return its exit status."""
    with open_context(args.config) as opened:
        return actions[args.action](args, opened)


def become_owner(directory: str) -> None:
    """As root, become the account that owns web's state: it could not use files that root creates.

    Before web's first start, `directory` may not exist. Then the owner of the folder above it counts.
    """
    if os.geteuid() != 0:
        return
    path = Path(directory)
    owner = next(folder for folder in (path, *path.parents) if folder.exists()).stat()
    os.setgroups([])
    os.setgid(owner.st_gid)
    os.setuid(owner.st_uid)


def refuse(command: str, problem: str | ValidationError, status: int = WRONG_ARGUMENT) -> int:
    """Print on standard error what is wrong; return the exit status."""
    if isinstance(problem, ValidationError):
        problem = error_text(problem)
    print(f"sluice {command}: {problem}", file=sys.stderr)
    return status


def error_text(error: ValidationError) -> str:
    """Return the message of an error, in English."""
    return Texts.load("en").get(error.text, **error.values)


def print_json(document: dict[str, Any]) -> None:
    """Print a JSON document with `"version": 1`."""
    print(json.dumps({"version": 1, **document}, indent=2))


def print_rows(lists: Iterable[tuple[str, Iterable[dict[str, Any]]]]) -> None:
    """Print a JSON document with `"version": 1` and these lists, a row per line; no row is kept in memory."""
    out = sys.stdout
    out.write('{"version": 1')
    for name, rows in lists:
        out.write(f', "{name}": [')
        comma = ""
        for row in rows:
            out.write(f"{comma}\n{json.dumps(row)}")
            comma = ","
        out.write("\n]")
    out.write("}\n")


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under a header, each column as wide as its widest cell.

    Names come from the provider and from users: characters that a terminal could interpret become `?`.
    """
    cells = [[terminal.line(str(cell)) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def day(moment: float | None) -> str:
    """Return the day (UTC) of a time in seconds since the epoch, "never" for None."""
    return "never" if moment is None else times.day(moment)


def cell(value: object) -> str:
    """Return a value as the cell of a table; floats are times in seconds since the epoch."""
    if isinstance(value, float):
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(value))
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    return "-" if value is None or value == "" else str(value)


def print_fields(document: dict[str, Any]) -> None:
    """Print a document of plain values, one per line."""
    print_table(("FIELD", "VALUE"), [(name, cell(value)) for name, value in document.items()])
