"""bubblewrap's command line, as a golden file, and what it must never contain."""

from __future__ import annotations

from pathlib import Path

import pytest

from sluice.box.bubblewrap import Box, below, command, without_covered

GOLDEN = Path(__file__).parents[2] / "golden" / "box" / "bubblewrap.txt"
BOX = Box(
    private="/tmp/sluice.0123abcd/box",
    shared="/tmp/sluice.0123abcd/box/s",
    read=("/usr", "/shared/models/Qwen3-8B", "/etc/ssl", "/shared/sluice/engines/vllm-0123456789ab"),
    links=(("/bin", "usr/bin"), ("/lib64", "usr/lib64")),
    devices=("/dev/nvidia0", "/dev/nvidiactl"),
    files=(("/etc/passwd", 5), ("/etc/hosts", 6)),
)


def pairs(argv: list[str], option: str) -> list[str]:
    """Return the value of each occurrence of an option."""
    return [argv[place + 1] for place, word in enumerate(argv) if word == option]


def test_the_command_line_is_the_golden_one() -> None:
    made = " ".join(command(BOX, "/usr/bin/bwrap", 7)).replace(" --", "\n--") + "\n"
    assert made == GOLDEN.read_text()


@pytest.mark.parametrize("network", [False, True])
def test_every_namespace_is_the_engines_own_but_the_network_where_it_is_asked_for(network: bool) -> None:
    argv = command(Box("/p", "/p/s", network=network), "bwrap", 3)
    assert "--unshare-all" in argv and "--die-with-parent" in argv and "--new-session" in argv
    assert ("--share-net" in argv) == network
    assert pairs(argv, "--cap-drop") == ["ALL"]


def test_only_the_folder_of_the_socket_can_be_written() -> None:
    argv = command(BOX, "bwrap", 3)
    assert pairs(argv, "--bind") == [BOX.shared]
    assert {"/tmp", "/dev/shm", "/run"} <= set(pairs(argv, "--tmpfs"))
    assert argv[argv.index("--remount-ro") + 1] == "/"


def test_a_folder_comes_before_what_lies_in_it_and_covers_it() -> None:
    assert without_covered(("/usr/lib", "/usr", "/opt/a", "/usr", "/opt/ab")) == ("/opt/a", "/opt/ab", "/usr")
    assert below("/a/b", "/a") and below("/a", "/a/") and below("/a", "/")
    assert not below("/ab", "/a")
