"""`sluice doctor`: checks what Sluice assumes about the site, and suggests remedies. Run it as root."""

from __future__ import annotations

import argparse
import dataclasses
import json

from sluice import config, terminal
from sluice.errors import EXIT_FAILURE
from sluice.scheduler.commands.scheduler import CONFIG
from sluice.scheduler.commands.status import print_table
from sluice.scheduler.config import SchedulerConfig
from sluice.scheduler.doctor import checks, facts
from sluice.scheduler.doctor.findings import WARNING, WRONG, Finding

PROBE_SECONDS = 120.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sluice doctor`."""
    parser.add_argument(
        "--config", default=CONFIG, help="the scheduler's configuration (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument(
        "--with-job",
        action="store_true",
        help=(
            "run a tiny job in the first model's partition that looks at the shared folder and listens "
            "on a port (120 s at most)"
        ),
    )


def run(arguments: argparse.Namespace) -> int:
    """Examine the site and print the findings; return 1 if something is wrong, else 0."""
    settings = config.load(SchedulerConfig, arguments.config)
    seconds = PROBE_SECONDS if arguments.with_job else 0.0
    findings = checks.examine(facts.gather(settings, arguments.config, seconds))
    wrong = sum(one.level == WRONG for one in findings)
    warnings = sum(one.level == WARNING for one in findings)
    if arguments.json:
        listed = terminal.tidy([dataclasses.asdict(one) for one in findings])
        print(
            json.dumps(
                {"version": 1, "wrong": wrong, "warnings": warnings, "findings": listed}, sort_keys=True
            )
        )
    else:
        print_table(("CHECK", "IS", "WHAT"), [(one.check, one.level, _what(one)) for one in findings])
        print(f"\n{wrong} wrong, {warnings} warnings")
    return EXIT_FAILURE if wrong else 0


def _what(finding: Finding) -> str:
    return f"{finding.message}. Remedy: {finding.remedy}" if finding.remedy else finding.message
