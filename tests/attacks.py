"""The tests that are attacks: on availability, on what separates users and jobs, on the box, on secrets.

`pytest -m attack tests/unit` runs those of a tier, `python -m tests.run attacks` all of them and says what
each tier took. A module is one of them whole: what makes an attack fail stands beside it.
"""

from __future__ import annotations

# Below tests/, without the ending.
MODULES = frozenset(
    (
        "integration/test_box",
        "integration/test_confinement",
        "integration/web/test_attacks_at_provider",
        "system/test_3_separation",
        "system/test_4_confinement",
        "system/test_8_all_at_once",
        "system/test_8_box",
        "system/test_8_costs",
        "system/test_8_neighbours",
        "unit/bodies/test_costs",
        "unit/bodies/test_positions",
        "unit/bodies/test_scan",
        "unit/box/test_bubblewrap",
        "unit/box/test_command",
        "unit/box/test_environment",
        "unit/front/test_boxed_engine",
        "unit/front/test_listener",
        "unit/front/test_unauthenticated",
        "unit/gate/test_refusals",
        "unit/lab/soak/test_bad_input",
        "unit/proxy/accounts/test_guesses",
        "unit/proxy/bodies/test_isolation",
        "unit/proxy/bodies/test_places",
        "unit/proxy/http/test_bad_input",
        "unit/relay/test_fuzz",
        "unit/scheduler/commands/test_printing",
        "unit/scheduler/loop/test_job_folders",
        "unit/scheduler/outside/test_untrusted_files",
        "unit/test_terminal",
        "unit/way/test_broken",
        "unit/way/test_deaths",
        "unit/web/commands/test_odd_arguments",
        "unit/web/database/test_stolen_database",
        "unit/web/http/test_guard",
        "unit/web/signin/test_attacks",
        "unit/wire/test_connection",
    )
)
