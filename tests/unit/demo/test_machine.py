"""What guests take over from the machine, from the text of its settings."""

from __future__ import annotations

import pytest

from demo.bed.errors import BedError
from demo.bed.machine import (
    AptSource,
    apt_options,
    guest_sources,
    local_paths,
    merge_pip,
    npm_config,
    parse_deb822_sources,
    parse_one_line_sources,
    pip_config,
)

KEYRING = "/usr/share/keyrings/archive.gpg"


def test_one_line_sources_are_read_with_their_keyring() -> None:
    text = f"""
# deb http://mirror.example/old bookworm main
deb-src http://mirror.example/debian bookworm main
deb [arch=amd64 signed-by={KEYRING}] http://mirror.example/debian bookworm main contrib # the mirror
deb http://mirror.example/security bookworm-security main
"""
    assert parse_one_line_sources(text) == [
        AptSource("http://mirror.example/debian", "bookworm", ("main", "contrib"), KEYRING),
        AptSource("http://mirror.example/security", "bookworm-security", ("main",)),
    ]


def test_deb822_stanzas_become_one_source_per_suite() -> None:
    text = f"""Types: deb deb-src
# a comment amid the fields
URIs: http://mirror.example/debian
Suites: bookworm
 bookworm-updates
Components: main
Signed-By: {KEYRING}

Types: deb
Enabled: no
URIs: http://mirror.example/off
Suites: bookworm
Components: main

Types: deb-src
URIs: http://mirror.example/sources
Suites: bookworm
Components: main
"""
    assert parse_deb822_sources(text) == [
        AptSource("http://mirror.example/debian", "bookworm", ("main",), KEYRING),
        AptSource("http://mirror.example/debian", "bookworm-updates", ("main",), KEYRING),
    ]


def test_a_key_written_into_a_stanza_is_not_taken_for_a_path() -> None:
    text = """Types: deb
URIs: http://mirror.example/debian
Suites: bookworm
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
"""
    assert [source.signed_by for source in parse_deb822_sources(text)] == [""]


def test_guests_use_the_distributions_own_archives_alone() -> None:
    found = guest_sources(
        [
            AptSource("http://mirror.example/debian", "bookworm", ("main", "contrib")),
            AptSource("http://mirror.example/debian", "bookworm-backports", ("main",)),
            AptSource("http://vendor.example/repo", "stable", ("main",)),
            AptSource("http://vendor.example/other", "bookworm", ("vendor",)),
            AptSource("http://mirror.example/security", "bookworm-security", ("main",)),
        ],
        "bookworm",
    )
    assert [source.line() for source in found] == [
        "deb http://mirror.example/debian bookworm main",
        "deb http://mirror.example/security bookworm-security main",
    ]


def test_sources_of_a_newer_machine_are_turned_to_the_guests_release() -> None:
    newer = AptSource("http://mirror.example/debian", "trixie-updates", ("main",), KEYRING)

    assert [source.line() for source in guest_sources([newer], "trixie")] == [
        f"deb [signed-by={KEYRING}] http://mirror.example/debian bookworm-updates main"
    ]


def test_sources_are_turned_to_a_newer_release_where_guests_have_it() -> None:
    older = AptSource("http://mirror.example/debian", "bookworm-updates", ("main",), KEYRING)

    assert [source.suite for source in guest_sources([older], "bookworm", "trixie")] == ["trixie-updates"]


def test_apt_options_are_those_that_say_how_archives_are_reached() -> None:
    dump = """APT "";
Acquire "";
Acquire::http::Proxy "http://proxy.example:3128";
Acquire::Check-Valid-Until "false";
Acquire::IndexTargets::deb::DEP-11 "";
DPkg::Pre-Install-Pkgs:: "/usr/sbin/dpkg-preconfigure --apt || true";
"""
    expected = 'Acquire::http::Proxy "http://proxy.example:3128";\nAcquire::Check-Valid-Until "false";\n'
    assert apt_options(dump) == expected


def test_pip_variables_win_over_files_and_later_files_over_earlier_ones() -> None:
    files = ["[global]\nindex-url = http://a.example/simple\ntimeout = 5\n", "[global]\ntimeout = 7\n"]
    variables = {"PIP_INDEX_URL": "http://b.example/simple", "PIP_CONFIG_FILE": "/x", "HOME": "/root"}

    assert merge_pip(files, variables) == {"index-url": "http://b.example/simple", "timeout": "7"}


def test_pip_settings_that_name_places_of_this_machine_alone_stay_here() -> None:
    assert merge_pip(["[global]\ncache-dir = /scratch/pip\n[install]\ntarget = /x\n"], {}) == {}


def test_a_broken_pip_file_is_an_error_that_says_so() -> None:
    with pytest.raises(BedError, match="pip configuration file"):
        merge_pip(["no section here\n"], {})


def test_a_pip_setting_of_several_lines_becomes_one() -> None:
    merged = merge_pip(["[global]\nfind-links =\n    /srv/wheels\n    /srv/more\n"], {})

    assert pip_config(merged) == "[global]\nfind-links = /srv/wheels /srv/more\n"


def test_local_paths_of_pip_are_found_and_certificates_left_out() -> None:
    settings = {
        "find-links": "/srv/wheels/ https://far.example/links",
        "extra-index-url": "file:///srv/index/simple file:///srv/with%20blank",
        "cert": "/etc/ssl/certs/ca-certificates.crt",
        "timeout": "5",
    }
    assert local_paths(settings) == ["/srv/index", "/srv/wheels", "/srv/with blank"]


def test_an_index_at_the_top_never_names_the_whole_machine() -> None:
    assert local_paths({"index-url": "file:///simple"}) == ["/simple"]


def test_npm_settings_lose_what_names_this_machine() -> None:
    system = "fund=false\nnodedir=/usr\n; a comment=1\n"
    user = "registry=http://npm.example/\nfund = true\ncache=/scratch\n"

    assert npm_config([system, user]) == "fund=true\nregistry=http://npm.example/\n"
