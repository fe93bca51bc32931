"""The objects that the requests of one session share."""

from __future__ import annotations

from dataclasses import dataclass

from sluice.endpoint import Endpoint
from sluice.gate.limits import BodyMemory
from sluice.relay.audit import Audit
from sluice.relay.config import RelayConfig
from sluice.relay.connections import InstanceConnections
from sluice.relay.demand import Demand
from sluice.relay.flow import Outflow
from sluice.relay.metrics import Counters
from sluice.relay.routing import RoutingFile


@dataclass(frozen=True)
class Services:
    """The session's own endpoint, and the parts of the relay that its requests use."""

    config: RelayConfig
    endpoint: Endpoint
    outflow: Outflow
    routing: RoutingFile
    connections: InstanceConnections
    demand: Demand
    counters: Counters
    memory: BodyMemory
    audit: Audit
