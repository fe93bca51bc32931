"""The address at which other nodes of a job reach this one: what `sluice address` prints."""

from __future__ import annotations

import socket

import pytest

from sluice.cli import main


def test_the_way_to_loopback_is_loopback_and_the_port_is_free(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["address", "127.0.0.1"]) == 0
    address, interface, port = capsys.readouterr().out.split()
    assert (address, interface) == ("127.0.0.1", "lo")
    with socket.create_server(("127.0.0.1", int(port))):
        pass


def test_a_peer_that_has_no_address_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["address", "no-such-node.invalid"]) == 1
    assert "the node no-such-node.invalid cannot be reached" in capsys.readouterr().err
