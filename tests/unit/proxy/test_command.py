"""`sluice proxy` on the command line."""

from __future__ import annotations

import pytest

from sluice.cli import main


@pytest.mark.parametrize("options", [["--key", "/stolen"], ["--json"], ["--key", "/stolen", "--json"]])
def test_options_of_a_test_do_not_start_the_proxy(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["proxy", "--config", "/nowhere", *options]) != 0
    assert "--key and --json need --try or --attack" in capsys.readouterr().err
