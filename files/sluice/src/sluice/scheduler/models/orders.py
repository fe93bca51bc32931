"""Administrators' orders for a model: `<models_dir>/<name>.orders`, next to the model's entry and script.

Which nodes they let in again lies in the same folder. The commands `sluice models drain | resume | restart`
and `sluice nodes readmit` are the only writers, one at a time (a lock on the folder); the scheduler only
reads. The folder belongs to root, so that neither the VM, nor a relay, nor a job can give an order. An absent
file means that nothing was ordered.
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
# No model's file: those end in .json, .sbatch and .orders.
NODES = "nodes.readmitted"

Ordered = TypeVar("Ordered", ModelOrders, NodeOrders)


def path(directory: str, name: str) -> Path:
    """Return where a model's orders lie."""
    return Path(directory, f"{name}.orders")


def read(directory: str, name: str) -> Optional[ModelOrders]:
    """Return the orders of a model, None where there are none.

    Raises OSError, and RecordError for a file that is not one of ours: links, files of other owners, files
    that others may write, and whatever does not parse.
    """
    document = _document(path(directory, name))
    if document is None:
        return None
    orders = ModelOrders.parse(document)
    if orders.model != name:
        raise RecordError("model", f"is {orders.model}, but the file belongs to {name}")
    return orders


def read_nodes(directory: str) -> NodeOrders:
    """Return which nodes are let in again. Raises as `read` does."""
    document = _document(Path(directory, NODES))
    return NodeOrders() if document is None else NodeOrders.parse(document)


def _document(file: Path) -> Optional[object]:
    """Return what a file of orders holds, None where there is none."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        # Before it becomes a stream: that fails on a folder, and would leave the descriptor open.
        check_owner(os.fstat(descriptor), file.parent.stat().st_uid)
        raw = os.read(descriptor, MAX_ORDERS_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(raw) > MAX_ORDERS_BYTES:
        raise RecordError("", f"larger than {MAX_ORDERS_BYTES} bytes")
    return decode_json(raw)


def check_owner(found: os.stat_result, owner: int) -> None:
    """Raise RecordError for a file that others than root and its folder's owner may have written."""
    if not stat.S_ISREG(found.st_mode):
        raise RecordError("", "not a regular file")
    if found.st_uid not in (0, owner):
        raise RecordError("", "its owner is neither root nor the owner of its folder")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise RecordError("", "group or others may write it")


def change(directory: str, name: str, alter: Callable[[ModelOrders], ModelOrders]) -> ModelOrders:
    """Alter the orders of a model and write them whole; return them. Nothing is written when they stay.

    A file that cannot be read is replaced: an administrator's new order is how it is corrected.
    Raises SluiceError when it cannot be written.
    """
    empty = ModelOrders(name)
    return _changed(path(directory, name), lambda: read(directory, name) or empty, empty, alter)


def change_nodes(directory: str, alter: Callable[[NodeOrders], NodeOrders]) -> NodeOrders:
    """Alter which nodes are let in again, as `change` does."""
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
    """Hold the folder's flock, for which a few seconds are waited. The kernel lets go of it."""
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
    """Return what the policy needs of them."""
    return policy.Orders(
        drained=orders.drained is not None,
        restart=orders.restart or 0.0,
        replace=frozenset(orders.replace),
        given=max(orders.resumed or 0.0, orders.restart or 0.0),
    )
