"""Users and their groups from the provider's claims."""

from __future__ import annotations

import re

from sluice.web.database.tables import Database
from sluice.web.people.accounts import upsert_person, upsert_service_account


def test_a_person_keeps_the_pseudonym_and_gets_the_groups_of_the_last_sign_in(database: Database) -> None:
    def sign_in(groups: list[str], issuer: str = "https://a.example") -> tuple[str, list[str]]:
        with database.write() as session:
            user = upsert_person(
                session, issuer=issuer, subject="1", name="A", email="a@b", groups=groups, now=1.0
            )
        return user.pseudonym, user.groups

    first, _ = sign_in(["users", "admins"])
    again, groups = sign_in(["users"])
    assert (first, groups) == (again, ["users"])
    assert re.fullmatch(r"u-[0-9a-f]{16}", first)
    assert sign_in(["users"], "https://b.example")[0] != first


def test_a_person_with_the_name_of_a_service_account_is_a_separate_user(database: Database) -> None:
    with database.write() as session:
        service = upsert_service_account(session, name="demo", groups=["users"], now=1.0)
        person = upsert_person(
            session, issuer="https://a.example", subject="demo", name="", email="", groups=[], now=1.0
        )
    assert service.pseudonym != person.pseudonym
