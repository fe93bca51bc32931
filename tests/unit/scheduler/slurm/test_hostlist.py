"""Node lists as Slurm prints them."""

from __future__ import annotations

import pytest

from sluice.scheduler.slurm.hostlist import expand


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("c1", ("c1",)),
        ("c[1-3]", ("c1", "c2", "c3")),
        ("c[1-2,7],gpu01", ("c1", "c2", "c7", "gpu01")),
        ("n[008-011]", ("n008", "n009", "n010", "n011")),
        ("rack1-n[1-2]-ib", ("rack1-n1-ib", "rack1-n2-ib")),
        ("a,b.example.org", ("a", "b.example.org")),
        ("", ()),
    ],
)
def test_lists_expand(text: str, names: tuple[str, ...]) -> None:
    assert expand(text) == names


@pytest.mark.parametrize(
    "text",
    ["c[1-", "c]", "c[1-2000]", "c[1-600],d[1-600]", "c[a-b]", "c[3-1]x y", "-c", "r[1-2]n[1-2]", "a,,b"],
)
def test_what_is_not_understood_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="node"):
        expand(text)


def test_a_node_name_with_an_underscore_is_one() -> None:
    """Slurm lets NodeName have it, and some sites do."""
    assert expand("gpu_a[1-2],login_3") == ("gpu_a1", "gpu_a2", "login_3")
