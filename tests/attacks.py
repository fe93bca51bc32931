"""The tests that are attacks: on availability, on what separates users and jobs, on the box, on secrets.

`pytest -m attack tests/unit` runs those of a tier, `python -m tests.run attacks` all of them and says what
each tier took. A module is one of them whole: what makes an attack fail stands beside it.
"""

from __future__ import annotations

# Below tests/, without the ending.
MODULES = frozenset(
    (
        *("unit/test_bodies", "unit/test_costs", "unit/test_scan", "unit/test_terminal"),
        *("unit/box/test_bubblewrap", "unit/box/test_command", "unit/box/test_environment"),
        *("unit/front/test_boxed_engine", "unit/front/test_listener", "unit/front/test_strangers"),
        *("unit/proxy/test_bad_input", "unit/proxy/test_guesses", "unit/proxy/test_isolation"),
        *("unit/proxy/test_places", "unit/relay/test_fuzz", "unit/soak/test_bad_input"),
        *("unit/scheduler/test_job_folders", "unit/scheduler/test_printing", "unit/scheduler/test_strangers"),
        *("unit/way/test_broken", "unit/way/test_deaths"),
        *("unit/web/test_attacks", "unit/web/test_guard", "unit/web/test_odd_arguments"),
        *("unit/web/test_stolen_database", "unit/wire/test_connection"),
        *("integration/test_box", "integration/test_confinement", "integration/web/test_attacks_at_provider"),
        *("system/test_3_separation", "system/test_4_confinement", "system/test_8_all_at_once"),
        *("system/test_8_box", "system/test_8_costs", "system/test_8_neighbours"),
    )
)
