"""Configuration files: an invalid one stops the start, and the message says where it is wrong."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

import pytest

from sluice import config
from sluice.errors import ConfigError


@dataclass(frozen=True)
class Peer:
    name: str
    port: int = 22


@dataclass(frozen=True)
class Example:
    peers: list[Peer]
    timeout: float
    note: Optional[str] = None
    extra: dict[str, int] = field(default_factory=dict)


def load(tmp_path: Path, document: object) -> Example:
    path = tmp_path / "example.json"
    path.write_text(json.dumps(document))
    return config.load(Example, path)


def test_a_file_becomes_a_frozen_dataclass(tmp_path: Path) -> None:
    document = {"version": 1, "peers": [{"name": "a"}], "timeout": 3, "extra": {"x": 1}}
    assert load(tmp_path, document) == Example([Peer("a", 22)], 3.0, None, {"x": 1})


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"peers": []}, "timeout: is missing"),
        ({"peers": [], "timeout": "3"}, "timeout: must be of type float"),
        ({"peers": [{"name": "a", "port": True}], "timeout": 1}, "peers[0].port: must be of type int"),
        ({"peers": [{"name": "a", "prot": 1}], "timeout": 1}, "peers[0].prot: is not a known key"),
        ({"peers": {}, "timeout": 1}, "peers: must be a list"),
        ([], "must be an object"),
    ],
)
def test_a_wrong_file_names_key_and_file(tmp_path: Path, document: object, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, document)
    assert said in caught.value.message
    assert "example.json" in caught.value.message


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="run the playbook"):
        config.load(Example, tmp_path / "none.json")


def test_a_broken_file_is_no_stack_trace(tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_text("{")
    with pytest.raises(ConfigError, match="not JSON"):
        config.load(Example, path)
