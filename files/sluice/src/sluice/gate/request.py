"""The checks of a request before it goes to an instance. Pure; every check raises SluiceError.

`contracts.heads.RequestHead` has already checked the form of each field of its head.
"""

from __future__ import annotations

from typing import Optional

from sluice.contracts.heads import RequestHead
from sluice.contracts.paths import COUNTING, PATHS, most_counted
from sluice.contracts.routing import RoutedModel, RoutingTable
from sluice.errors import SluiceError


def find_model(table: Optional[RoutingTable], name: str) -> RoutedModel:
    """Return the model that a request names; `table` is None if the scheduler has written none yet."""
    if table is None:
        raise SluiceError("no_instance", "the cluster has no routing table yet", retry_after=15)
    model = table.models.get(name)
    if model is None:
        raise SluiceError("model_not_found", "this cluster does not have the model", param="model")
    return model


def check_head(head: RequestHead, model: RoutedModel) -> None:
    """Check that the model can serve what a head asks for."""
    capability = PATHS[head.path]
    if capability not in model.capabilities:
        raise SluiceError("capability_missing", "the model does not serve this path", param="model")
    if capability in COUNTING and head.length > most_counted(model.context_length):
        raise SluiceError("body_too_large", "a body to count must be smaller")
    check_room(head.places, model)


def check_room(places: int, model: RoutedModel) -> None:
    """Refuse a request that needs more places than one instance of the model has."""
    most = model.concurrency
    if places > most:
        raise SluiceError(
            "invalid_request", f"the request takes {places} places; an instance of this model has {most}"
        )


def check_model(named: str, head: RequestHead) -> None:
    """Refuse a body that names another model than its head: only the head's model was checked and routed."""
    if named != head.model:
        raise SluiceError("model_mismatch", "the body's model is not the routed one", param="model")


def check_places(needed: int, said: int) -> None:
    """Refuse a body that needs more places than its head says: the others were not counted for its user."""
    if needed > said:
        raise SluiceError("invalid_request", f"the body takes {needed} places, its head says {said}")
