"""Orders of administrators for models and nodes: `model-orders.json`, `node-orders.json`. Pure."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any, Optional

from sluice.contracts.fields import Fields, dump_record
from sluice.contracts.values import ADMIN, HOST, INSTANCE_ID, MAX_TIME, MODEL_NAME

_ADMIN_OR_NONE = re.compile(f"(?:{ADMIN.pattern})?")

MAX_ORDERED = 1000


@dataclass(frozen=True)
class ModelOrders:
    """The orders of administrators for one model, given by `sluice models drain | resume | restart`.

    Times in seconds since the epoch. `drained`: when it was taken out of service, None while in service.
    `resumed`: when it was last put back. `restart`: replace the instances that were submitted before this
    time. `replace`: replace these instances. `by`: who gave the last order, for people.
    """

    model: str
    drained: Optional[float] = None
    resumed: Optional[float] = None
    restart: Optional[float] = None
    replace: tuple[str, ...] = ()
    by: str = ""

    @classmethod
    def parse(cls, obj: object) -> ModelOrders:
        """Read an orders file; unknown fields are refused."""
        fields = Fields(obj)
        fields.version()
        orders = cls(
            model=fields.text("model", MODEL_NAME),
            drained=fields.optional_number("drained", 0, MAX_TIME),
            resumed=fields.optional_number("resumed", 0, MAX_TIME),
            restart=fields.optional_number("restart", 0, MAX_TIME),
            replace=fields.texts("replace", INSTANCE_ID, []),
            by=fields.text("by", _ADMIN_OR_NONE, ""),
        )
        fields.done()
        if len(orders.replace) > MAX_ORDERED:
            raise fields.fail("replace", f"has more than {MAX_ORDERED} items")
        return orders

    def dump(self) -> dict[str, Any]:
        """Return the document."""
        return dump_record(self, version=True)


@dataclass(frozen=True)
class NodeOrders:
    """The nodes that administrators let in again with `sluice nodes readmit`.

    Times in seconds since the epoch. Failures on a node before its time in `nodes`, or before `all` on any
    node, do not count against it any more. `by`: who gave the last order, for people.
    """

    all: Optional[float] = None
    nodes: dict[str, float] = dataclasses.field(default_factory=dict)
    by: str = ""

    @classmethod
    def parse(cls, obj: object) -> NodeOrders:
        """Read the file; unknown fields are refused."""
        fields = Fields(obj)
        fields.version()
        given = fields.mapping("nodes", HOST, {})
        each = Fields(given, "nodes")
        orders = cls(
            all=fields.optional_number("all", 0, MAX_TIME),
            nodes={name: each.number(name, 0, MAX_TIME) for name in given},
            by=fields.text("by", _ADMIN_OR_NONE, ""),
        )
        fields.done()
        if len(orders.nodes) > MAX_ORDERED:
            raise fields.fail("nodes", f"has more than {MAX_ORDERED} items")
        return orders

    def dump(self) -> dict[str, Any]:
        """Return the document."""
        return dump_record(self, version=True)
