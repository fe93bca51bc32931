"""What a model's definition may ask of sbatch, however sbatch lets it be written."""

from __future__ import annotations

from pathlib import Path

import pytest

from sluice.scheduler.slurm.sbatch_options import FIELDS, RESERVED, SHORT, refused_extra, refused_script

GOLDEN = Path(__file__).parents[3] / "golden" / "sbatch"

# sbatch's options in Slurm 20.11 to 25.05 that are neither reserved nor a field's, from its documentation.
OTHERS = [
    "acctg-freq",
    "batch",
    "bb",
    "bbf",
    "cluster-constraint",
    "constraint",
    "container",
    "container-id",
    "contiguous",
    "core-spec",
    "cores-per-socket",
    "cpu-freq",
    "cpus-per-gpu",
    "delay-boot",
    "distribution",
    "exclude",
    "exclusive",
    "extra-node-info",
    "gpu-bind",
    "gpu-freq",
    "gpus-per-socket",
    "gpus-per-task",
    "gres-flags",
    "hint",
    "ignore-pbs",
    "kill-on-invalid-dep",
    "licenses",
    "mail-type",
    "mail-user",
    "mcs-label",
    "mem-bind",
    "mem-per-cpu",
    "mem-per-gpu",
    "mincpus",
    "network",
    "no-kill",
    "nodefile",
    "nodelist",
    "ntasks-per-core",
    "ntasks-per-gpu",
    "ntasks-per-socket",
    "overcommit",
    "oversubscribe",
    "power",
    "prefer",
    "profile",
    "propagate",
    "reboot",
    "sockets-per-node",
    "spread-job",
    "switches",
    "thread-spec",
    "threads-per-core",
    "tmp",
    "tres-bind",
    "tres-per-task",
    "umask",
    "use-min-nodes",
    "verbose",
    "wait-all-nodes",
    "wckey",
]


def script(*lines: str) -> str:
    """Return a script with these lines."""
    return "\n".join(("#!/bin/bash", *lines, "true", ""))


@pytest.mark.parametrize("name", [*sorted(RESERVED), *FIELDS])
def test_no_beginning_of_a_refused_option_passes_but_another_options_name(name: str) -> None:
    for length in range(1, len(name) + 1):
        said = name[:length]
        if said not in OTHERS:
            assert refused_extra(f"--{said}=x"), said
            assert refused_extra(f"--{said}"), said


@pytest.mark.parametrize("name", OTHERS)
def test_other_options_pass(name: str) -> None:
    assert refused_extra(f"--{name}=x") == ""
    assert refused_script(script(f"#SBATCH --{name}=x")) == []


def test_options_of_a_sites_own_plugins_pass() -> None:
    assert refused_extra("--site-scratch=10G") == ""


@pytest.mark.parametrize("name", ["--clusters=other", "--cluster=other", "--clu=other", "--c=other"])
def test_another_cluster_is_refused_however_it_is_written(name: str) -> None:
    assert "another cluster" in refused_extra(name) or "slurm." in refused_extra(name)
    assert "another cluster" in "".join(refused_script(script(f"#SBATCH {name}")))


@pytest.mark.parametrize(
    "line",
    [
        "#SBATCH -M other",
        "#SBATCH -Mother",
        "#SBATCH\t-M other",
        "#SBATCH-M other",
        "#SBATCH -HM other",
        "#SBATCH --time=5 -sQM other",
        "#SBATCH --nodes=1 '--clusters=other'",
        '#SBATCH --"clus"=other',
        "#SBATCH --clu\\sters=other",
        "#SBATCH hetjob",
        "#SBATCH packjob",
        "#SLURM -N 1",
        "#PBS -W depend=afterok:1",
        "#BSUB -J x[1-9]",
        "#SBATCH --hold",
        "#SBATCH --ho",
        "#SBATCH --begin=now+1hour",
        "#SBATCH --uid=0",
        "#SBATCH --comment 'unended",
    ],
)
def test_a_script_is_read_as_sbatch_reads_it(line: str) -> None:
    assert refused_script(script(line))


@pytest.mark.parametrize(
    "line",
    [
        "#SBATCH --constraint=a100 # not --hold",
        '#SBATCH --licenses="a -M b"',
        "#SBATCH -p fat -n 1 -N1 -c4",
        "#SBATCH -wMH",
        "#SBATCH --requeue --gres=gpu:1 --time=5",
        "## SBATCH --hold",
        "echo '#SBATCH' --hold",
        "# PBS is another system",
    ],
)
def test_what_only_looks_so_passes(line: str) -> None:
    assert refused_script(script(line)) == []


def test_the_bundled_scripts_pass() -> None:
    scripts = list(GOLDEN.glob("*.sbatch"))
    assert scripts
    assert {path.name: refused_script(path.read_text()) for path in scripts} == {
        path.name: [] for path in scripts
    }


def test_every_short_option_stands_for_a_reserved_one() -> None:
    assert set(SHORT.values()) <= RESERVED
