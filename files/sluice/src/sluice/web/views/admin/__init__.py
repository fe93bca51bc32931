"""The administrators' pages, one blueprint for each resource."""

from sluice.web.views.admin import (
    announcements,
    audit,
    limits,
    models,
    overview,
    projects,
    user_keys,
    users,
)

BLUEPRINTS = tuple(
    part.blueprint for part in (overview, users, user_keys, projects, limits, models, announcements, audit)
)
