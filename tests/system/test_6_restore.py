"""The gateway's database is backed up to the controller and restored from there, while requests go on."""

from __future__ import annotations

import json
from pathlib import Path

from demo.deployment import Deployment
from tests.system.service import Service
from tests.system.test_4_rotation import asked


def limits(service: Service) -> list[str]:
    """Return the scopes of the limits that administrators have set."""
    listed = json.loads(service.shell("gw", "sluice limits list --json"))["limits"]
    return [one["scope"] for one in listed if one["from"] == "here"]


def test_a_backup_is_restored_and_no_request_notices(
    steady: Service, deployment: Deployment, tmp_path: Path
) -> None:
    steady.shell("gw", "sluice limits set group:before --concurrent 5")
    with asked(steady) as problems:
        deployment.play("playbooks/ops/backup.yml", "-e", f"backup_to={tmp_path}")
        (backup,) = tmp_path.glob("gw/sluice-*.db")
        assert backup.stat().st_mode & 0o777 == 0o600
        steady.shell("gw", "sluice limits set group:after --concurrent 5")
        deployment.play("playbooks/ops/restore.yml", "-e", f"backup={backup}")
    assert problems == []
    assert limits(steady) == ["group:before"]
    assert steady.request("GET", "/auth/login").status in (302, 303)
    steady.shell("gw", "sluice limits remove group:before")


def test_a_restore_of_a_broken_file_changes_nothing_and_leaves_the_services_running(
    steady: Service, deployment: Deployment, tmp_path: Path
) -> None:
    broken = tmp_path / "sluice-broken.db"
    broken.write_bytes(b"no database")
    before = limits(steady)
    for backup, says in ((broken, "not a database"), (tmp_path / "none.db", "there is no file")):
        done = deployment.play("playbooks/ops/restore.yml", "-e", f"backup={backup}", check=False)
        assert done.returncode != 0
        assert says in " ".join(done.stdout.split())
    units = "systemctl is-active sluice-web sluice-authority sluice-web-nightly.timer"
    assert steady.shell("gw", units).split() == ["active"] * 3
    assert limits(steady) == before
