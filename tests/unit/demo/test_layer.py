"""When a layer of packages must be made anew."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from demo.bed.image import BaseImage
from demo.bed.layer import PackageLayer
from demo.bed.machine import Machine

MACHINE = Machine(
    apt_sources=(),
    apt_options="",
    certificates=(),
    resolv_conf="nameserver 192.0.2.1\n",
    pip={},
    npmrc="",
    environment=(),
)


def test_the_key_is_one_for_the_same_packages_in_any_order(tmp_path: Path) -> None:
    base = BaseImage(MACHINE, tmp_path)

    assert PackageLayer(base, ("a", "b")).key == PackageLayer(base, ("b", "a")).key


def test_the_key_changes_with_packages_and_with_the_base(tmp_path: Path) -> None:
    base = BaseImage(MACHINE, tmp_path)
    other = BaseImage(replace(MACHINE, apt_options='Acquire::Retries "3";\n'), tmp_path)

    assert (
        len({PackageLayer(base, ("a",)).key, PackageLayer(base, ("b",)).key, PackageLayer(other, ("a",)).key})
        == 3
    )


def test_a_made_layer_lies_above_its_base_and_a_bare_host_has_none(tmp_path: Path) -> None:
    base = BaseImage(MACHINE, tmp_path)
    layer = PackageLayer(base, ("a",))
    base.tree.mkdir(parents=True)
    layer.tree.mkdir(parents=True)
    said: list[str] = []

    assert layer.ensure(said.append) == [layer.tree, base.tree]
    assert PackageLayer(base, ()).ensure(said.append) == [base.tree]
    assert said == []
