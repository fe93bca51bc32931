"""The build of the pages' scripts: equal sources make equal bytes, and nothing in them tells of where."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import page.build
from page.node import HERE, node


def _built(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_two_builds_are_equal_wherever_they_are_made(tmp_path: Path) -> None:
    here = _built(page.build.ensure())
    elsewhere = tmp_path / "another place" / "page"
    shutil.copytree(HERE / "src", elsewhere / "src")
    words = page.build.STATIC.parent / "words" / "texts"
    shutil.copytree(words, tmp_path / "another place" / words.relative_to(HERE.parent))
    lock = json.loads((HERE / "package-lock.json").read_text())["packages"]
    for name in (name for name, entry in lock.items() if name and not entry.get("dev")):
        if (HERE / name).exists() and "esbuild" not in name:
            shutil.copytree(HERE / name, elsewhere / name, dirs_exist_ok=True)
    (elsewhere / "node_modules" / "esbuild").symlink_to(HERE / "node_modules" / "esbuild")
    for name in ("build.mjs", "package.json", "tsconfig.json"):
        shutil.copy(HERE / name, elsewhere)
    node(elsewhere / "build.mjs", tmp_path / "out")
    assert _built(tmp_path / "out") == here
    for content in here.values():
        assert str(HERE.parent).encode() not in content


def test_a_build_leaves_nothing_of_an_earlier_one(tmp_path: Path) -> None:
    (tmp_path / "chat-OLD00000.js").write_text("old")
    page.build.build(tmp_path)
    files = json.loads((tmp_path / "manifest.json").read_text())["files"]
    named = {
        one
        for entry in files.values()
        for one in (entry["file"], *entry["imports"], *entry["styles"], *entry["fonts"])
    }
    assert set(_built(tmp_path)) == named | {"manifest.json", "licenses.txt"}


def test_the_licences_of_what_is_built_in_go_with_it() -> None:
    text = (page.build.ensure() / "licenses.txt").read_text()
    of_markdown = ("markdown-it", "linkify-it", "mdurl", "entities", "katex", "@mermaid-js/tiny")
    for name in ("preact", "@preact/signals", "idb", "pdfjs-dist", *of_markdown):
        assert f"{name} " in text


def test_the_lock_names_no_registry() -> None:
    """Whoever installs takes the packages from the registry that is set there, by their digests."""
    lock = json.loads((HERE / "package-lock.json").read_text())
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert packages
    for name, entry in packages.items():
        assert "resolved" not in entry, name
        assert entry["integrity"].startswith("sha512-"), name


def test_no_package_for_drawing_outside_a_browser_is_installed() -> None:
    """pdf.js names one, of 30 MB for each platform, that only programs without a browser need."""
    lock = json.loads((HERE / "package-lock.json").read_text())
    assert [name for name in lock["packages"] if "canvas" in name] == []
    assert "optionalDependencies" not in lock["packages"]["node_modules/pdfjs-dist"]


def test_dependencies_are_pinned_and_used() -> None:
    package = json.loads((HERE / "package.json").read_text())
    sources = "".join(path.read_text() for path in (HERE / "src").rglob("*.ts*"))
    sources += (HERE / "build.mjs").read_text() + (HERE / "check.py").read_text()
    sources += "".join(path.read_text() for path in (HERE / "test").glob("*.ts"))
    sources += (HERE.parent / "tests" / "browser" / "accessible.py").read_text()
    for name, version in {**package["dependencies"], **package["devDependencies"]}.items():
        assert version[0].isdigit(), name
        assert name in sources or name.startswith("@types/"), name
