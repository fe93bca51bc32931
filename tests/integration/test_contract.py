"""The API keeps what its own description promises: requests made up from it, good ones and bad ones.

schemathesis reads /v1/openapi.json and asks the whole stack; SLUICE_SOAK_CONTRACT (seconds) lets it make up
more than the cases that the description itself names.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lab.bench.processes import ROOT
from lab.bench.stack import MODEL
from tests.integration.stand import Stand

pytestmark = pytest.mark.integration

SOAK = float(os.environ.get("SLUICE_SOAK_CONTRACT", "0"))
HOOKS = "tests.integration.contract_hooks"
PROGRAM = Path(sys.executable).parent / "schemathesis"
# What the description's own cases come to; fewer would mean that it was not understood.
LEAST = 500
CASES = re.compile(r"(\d+) generated")


def described(stand: Stand) -> dict[str, Any]:
    """Return the description; of all names that a model may have, requests take one that is there."""
    status, document = stand.get("/v1/openapi.json")
    assert status == 200
    served = {"type": "string", "enum": [MODEL]}
    for name, schema in document["components"]["schemas"].items():
        if name.endswith("Request"):
            schema["properties"]["model"] = served
    (named,) = document["paths"]["/v1/models/{model}"]["get"]["parameters"]
    named["schema"] = served
    found: dict[str, Any] = document
    return found


def configuration(stand: Stand) -> str:
    """Return schemathesis's own; it reads the key from the environment."""
    return (
        f'base-url = "{stand.url}"\ntls-verify = "{stand.ca}"\n'
        '[auth.openapi.key]\nbearer = "${SLUICE_API_KEY}"\n'
        '[auth.openapi.xApiKey]\napi_key = "${SLUICE_API_KEY}"\n'
    )


@pytest.mark.timeout(SOAK + 180)
def test_nothing_breaks_the_contract(stand: Stand, tmp_path: Path) -> None:
    description = tmp_path / "openapi.json"
    description.write_text(json.dumps(described(stand)))
    settings = tmp_path / "schemathesis.toml"
    settings.write_text(configuration(stand))
    argv = [str(PROGRAM), "--config-file", str(settings), "run", str(description), "--no-color"]
    argv += ["--generation-database", "none", "--continue-on-failure", "--request-timeout", "20"]
    phases = ["--phases", "coverage", "--seed", "5"]
    if SOAK:
        phases = ["--phases", "coverage,fuzzing,stateful", "--max-time", str(int(SOAK))]
    done = subprocess.run(
        [*argv, *phases],
        cwd=tmp_path,
        env={**os.environ, **stand.environment, "SCHEMATHESIS_HOOKS": HOOKS, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=SOAK + 150,
        check=False,
    )
    print(done.stdout[-2000:])
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:]
    found = CASES.search(done.stdout)
    assert found is not None
    assert int(found[1]) >= LEAST
