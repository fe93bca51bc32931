"""When a base image must be built anew."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from demo.bed.image import BaseImage, cache_folder
from demo.bed.machine import AptSource, Machine

MACHINE = Machine(
    apt_sources=(AptSource("http://mirror.example/debian", "bookworm", ("main",)),),
    apt_options="",
    certificates=(),
    resolv_conf="nameserver 192.0.2.1\n",
    pip={},
    npmrc="",
    environment=(),
)


def test_the_key_changes_with_what_the_image_contains(tmp_path: Path) -> None:
    certificate = tmp_path / "site.crt"
    certificate.write_text("one")
    trusting = replace(MACHINE, certificates=(certificate,))
    keys = {
        BaseImage(machine, tmp_path).key for machine in (MACHINE, trusting, replace(MACHINE, apt_sources=()))
    }
    certificate.write_text("two")
    keys.add(BaseImage(trusting, tmp_path).key)

    assert len(keys) == 4


def test_the_key_does_not_change_with_what_is_written_into_each_host(tmp_path: Path) -> None:
    other = replace(MACHINE, resolv_conf="nameserver 192.0.2.9\n", npmrc="fund=false\n", pip={"timeout": "5"})

    assert BaseImage(MACHINE, tmp_path).key == BaseImage(other, tmp_path).key


def test_an_image_that_lies_unpacked_is_used_as_it_is(tmp_path: Path) -> None:
    image = BaseImage(MACHINE, tmp_path)
    image.tree.mkdir(parents=True)
    said: list[str] = []

    assert image.ensure(said.append) == image.tree
    assert said == []


def test_the_cache_folder_is_a_setting() -> None:
    assert cache_folder({"SLUICE_CACHE": "/scratch/cache"}) == Path("/scratch/cache")
    assert cache_folder({"HOME": "/home/ada"}) == Path("/home/ada/.cache/sluice")
