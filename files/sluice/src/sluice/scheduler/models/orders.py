"""Administrators' orders for a model: `<models_dir>/<name>.orders`, next to the model's entry and script.

The list of readmitted nodes is in the same folder. Only the commands `sluice models drain | resume | restart`
and `sluice nodes readmit` write these files, one at a time (a lock on the folder); the scheduler only reads
them. The folder belongs to root, so neither the gateway nor a relay nor a job can give an order. Without a
file there is no order.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Optional, TypeVar

from sluice.contracts.encoding import decode_json
from sluice.contracts.files import write_json
from sluice.contracts.orders import ModelOrders, NodeOrders
from sluice.errors import RecordError, SluiceError
from sluice.scheduler.policy import policy

MAX_ORDERS_BYTES = 1 << 17
FILE_MODE = 0o640
LOCK_WAIT = 5.0
# Cannot be a model's file: those end in .json, .sbatch and .orders.
NODES = "nodes.readmitted"

Ordered = TypeVar("Ordered", ModelOrders, NodeOrders)


def path(directory: str, name: str) -> Path:
    """Return the path of a model's orders."""
    return Path(directory, f"{name}.orders")


def read(directory: str, name: str) -> Optional[ModelOrders]:
    """Return the orders of a model, None if there are none.

    Raises OSError. Raises RecordError for a file that was not written by our commands: a link, a file of
    another owner, a file that others may write, or one that does not parse.
    """
    document = _document(path(directory, name))
    if document is None:
        return None
    orders = ModelOrders.parse(document)
    if orders.model != name:
        raise RecordError("model", f"is {orders.model}, but the file belongs to {name}")
    return orders


def read_nodes(directory: str) -> NodeOrders:
    """Return which nodes were readmitted. Raises the same errors as `read`."""
    document = _document(Path(directory, NODES))
    return NodeOrders() if document is None else NodeOrders.parse(document)


def _document(file: Path) -> Optional[object]:
    """Return the content of a file of orders, None if there is no file."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        # Checked on the descriptor: fdopen fails for a folder and would leave the descriptor open.
        check_owner(os.fstat(descriptor), file.parent.stat().st_uid)
        raw = os.read(descriptor, MAX_ORDERS_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(raw) > MAX_ORDERS_BYTES:
        raise RecordError("", f"larger than {MAX_ORDERS_BYTES} bytes")
    return decode_json(raw)


def check_owner(found: os.stat_result, owner: int) -> None:
    """Raise RecordError for a file that somebody else than root or the folder's `owner` may have written."""
    if not stat.S_ISREG(found.st_mode):
        raise RecordError("", "not a regular file")
    if found.st_uid not in (0, owner):
        raise RecordError("", "its owner is neither root nor the owner of its folder")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise RecordError("", "group or others may write it")


def change(directory: str, name: str, alter: Callable[[ModelOrders], ModelOrders]) -> ModelOrders:
    """Change the orders of a model with `alter`; return them. Nothing is written if they stay the same.

    A damaged file is replaced: a new order is how an administrator repairs it. Raises SluiceError if the
    file cannot be written.
    """
    empty = ModelOrders(name)
    return _changed(path(directory, name), lambda: read(directory, name) or empty, empty, alter)


def change_nodes(directory: str, alter: Callable[[NodeOrders], NodeOrders]) -> NodeOrders:
    """Change the list of readmitted nodes, like `change`."""
    return _changed(Path(directory, NODES), lambda: read_nodes(directory), NodeOrders(), alter)


def _changed(
    file: Path, read_it: Callable[[], Ordered], empty: Ordered, alter: Callable[[Ordered], Ordered]
) -> Ordered:
    try:
        with _locked(str(file.parent)):
            try:
                before = read_it()
            except RecordError:
                before, damaged = empty, True
            else:
                damaged = False
            after = alter(before)
            if after != before or damaged:
                write_json(file, after.dump(), FILE_MODE, file.parent.stat().st_gid)
    except OSError as error:
        raise SluiceError("internal_error", f"{file.parent}: {error.strerror}; run this as root") from None
    return after


@contextmanager
def _locked(directory: str) -> Iterator[None]:
    """Hold the folder's flock; wait a few seconds for it. The kernel releases it when the process ends."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    deadline = time.monotonic() + LOCK_WAIT
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise SluiceError(
                        "internal_error", f"{directory}: another sluice command is running; try again"
                    ) from None
                time.sleep(0.05)
            else:
                break
        yield
    finally:
        os.close(descriptor)


def for_policy(orders: ModelOrders) -> policy.Orders:
    """Return what the policy needs of the orders."""
    return policy.Orders(
        drained=orders.drained is not None,
        restart=orders.restart or 0.0,
        replace=frozenset(orders.replace),
        given=max(orders.resumed or 0.0, orders.restart or 0.0),
    )
