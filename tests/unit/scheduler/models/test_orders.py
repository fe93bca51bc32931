"""The orders file: one writer at a time, whole files, and nothing believed that somebody else wrote."""

from __future__ import annotations

import fcntl
import json
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from sluice.contracts.orders import ModelOrders
from sluice.errors import RecordError, SluiceError
from sluice.scheduler.models import orders


def drain(directory: Path, when: float = 5.0) -> ModelOrders:
    """Order a drain."""
    return orders.change(str(directory), "m", lambda found: replace(found, drained=when))


def test_no_file_means_no_orders(tmp_path: Path) -> None:
    assert orders.read(str(tmp_path), "m") is None


def test_an_order_is_read_back_and_the_same_one_writes_nothing(tmp_path: Path) -> None:
    assert drain(tmp_path) == orders.read(str(tmp_path), "m") == ModelOrders("m", drained=5.0)
    path = orders.path(str(tmp_path), "m")
    assert path.stat().st_mode & 0o777 == 0o640
    before = path.stat().st_ino
    drain(tmp_path)
    assert path.stat().st_ino == before
    assert [one.name for one in tmp_path.iterdir()] == ["m.orders"]


def test_trying_to_cheat_with_an_orders_file(tmp_path: Path) -> None:
    path = orders.path(str(tmp_path), "m")
    good = json.dumps(ModelOrders("m", drained=1.0).dump())
    path.write_text(good)
    path.chmod(0o660)
    with pytest.raises(RecordError, match="may write it"):
        orders.read(str(tmp_path), "m")
    path.chmod(0o640)
    path.write_text(json.dumps(ModelOrders("other").dump()))
    with pytest.raises(RecordError, match="is other"):
        orders.read(str(tmp_path), "m")
    path.write_text("{" + " " * orders.MAX_ORDERS_BYTES)
    with pytest.raises(RecordError, match="larger"):
        orders.read(str(tmp_path), "m")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(RecordError, match="regular"):
        orders.read(str(tmp_path), "m")
    path.unlink()
    (tmp_path / "elsewhere").write_text(good)
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        orders.read(str(tmp_path), "m")


def test_a_file_of_another_owner_is_refused(tmp_path: Path) -> None:
    drain(tmp_path)
    found = orders.path(str(tmp_path), "m").stat()
    foreign = os.stat_result((found.st_mode, 1, 1, 1, 12345, 12345, 10, 0, 0, 0))
    with pytest.raises(RecordError, match="owner"):
        orders.check_owner(foreign, os.geteuid())
    orders.check_owner(foreign, 12345)


def test_a_damaged_file_is_mended_by_the_next_order(tmp_path: Path) -> None:
    orders.path(str(tmp_path), "m").write_text("{")
    orders.change(str(tmp_path), "m", lambda found: found)
    assert orders.read(str(tmp_path), "m") == ModelOrders("m")


def test_two_commands_at_once_lose_neither_order(tmp_path: Path) -> None:
    def add(number: int) -> None:
        name = f"m-{number:08x}"
        orders.change(str(tmp_path), "m", lambda found: replace(found, replace=(*found.replace, name)))

    threads = [threading.Thread(target=add, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = orders.read(str(tmp_path), "m")
    assert found is not None and len(set(found.replace)) == 12


def test_a_lock_that_is_never_let_go_ends_in_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders, "LOCK_WAIT", 0.1)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        with pytest.raises(SluiceError, match="another sluice command"):
            drain(tmp_path)
    finally:
        os.close(descriptor)


def test_a_folder_that_is_not_there_says_who_may(tmp_path: Path) -> None:
    with pytest.raises(SluiceError, match="run this as root"):
        drain(tmp_path / "none")
