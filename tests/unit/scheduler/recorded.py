"""Recorded answers of squeue, as they are printed for a question with a mark.

The recordings were made column by column, parted by bars: the texts in them hold none.
"""

from __future__ import annotations

from pathlib import Path

from sluice.scheduler.instances.instance import QueueJob
from sluice.scheduler.slurm.squeue import parse_queue

RECORDED = Path(__file__).parents[2] / "golden" / "slurm"
MARK = "0123456789abcdef"


def printed(facts: str, reason: str, comment: str, name: str, directory: str = "/") -> str:
    """Return what squeue prints of one job: texts raw, cut and padded to their widths."""
    texts = (reason[:200].ljust(200), comment[:200].ljust(200), directory, name[:100].ljust(100))
    return f"|{MARK}|".join((facts, *texts)) + f"|{MARK}.\n"


def answer(recording: str) -> str:
    """Return a recording, of the columns %A %T %V %S %e %N %r %k %j, as it is printed now."""
    lines = [line.split("|") for line in (RECORDED / recording).read_text().splitlines()]
    return "".join(printed("|".join(line[:6]), *line[6:]) for line in lines)


def queue(recording: str) -> tuple[QueueJob, ...]:
    """Return the jobs of a recording."""
    return parse_queue(answer(recording), MARK)
