"""Claims in the forms of real providers: each is accepted, or refused with a log line that names it.

The forms are those of the providers' own documentation and of tokens that projects show; people, groups and
numbers are made up.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest
from flask.testing import FlaskClient

from sluice.web.database.tables import Database
from sluice.web.settings.config import Access, Claims, WebConfig
from tests.unit.web.issuer import CLIENT, Issuer
from tests.unit.web.signin.test_provider import nothing_was_kept, people
from tests.unit.web.visitor import ISSUER


class Form(NamedTuple):
    """What a provider sends, the site's settings for it, and the expected result.

    `token` and `profile`: of the ID token and of userinfo, beside what every token has. `person`: identifier,
    name, mail address and groups, or None where `refused` has the page's status and the claim in the log.
    """

    token: Mapping[str, Any]
    profile: Mapping[str, Any] | None
    id: str = "sub"
    email: str = "email"
    groups: str = "groups"
    names: Mapping[str, str] = {}
    person: tuple[str, str, str, list[str]] | None = None
    refused: tuple[int, str] | None = None
    metadata: Mapping[str, Any] = {}


ADA = {"name": "Ada Example", "email": "ada@example.org"}
UUID = "7f1c3a52-0c1e-4b6f-9d57-2f6a4f0e9b10"
GUIDS = [f"{number:08x}-0000-4000-8000-0123456789ab" for number in range(3)]
VO = "urn:mace:egi.eu:group:vo.example.eu:role=member#aai.egi.eu"
VO_ADMINS = "urn:mace:egi.eu:group:vo.example.eu:admins:role=owner#aai.egi.eu"
UNIQUE = "3f" * 32 + "@egi.eu"
ENTITLED = "urn:mace:example.org:entitlement:hpc:llm"
DN = "cn=llm users,ou=groups,dc=example,dc=org"
KEYCLOAK = {
    **ADA,
    "sub": UUID,
    "typ": "ID",
    "azp": CLIENT,
    "acr": "1",
    "session_state": UUID,
    "preferred_username": "ada",
    "email_verified": True,
    "given_name": "Ada",
    "family_name": "Example",
}
ENTRA = {
    "sub": "AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ",
    "oid": UUID,
    "tid": GUIDS[0],
    "name": "Example, Ada",
    "preferred_username": "ada@example.org",
    "ver": "2.0",
    "rh": "0.AAA.",
    "uti": "abc",
}
# Microsoft Graph's userinfo of the same person: no groups, and often no mail address.
GRAPH = {
    "sub": ENTRA["sub"],
    "name": "Example, Ada",
    "given_name": "Ada",
    "picture": "https://graph.example/",
}
ZITADEL = {**ADA, "sub": "281125443186950146", "locale": "de", "updated_at": 1764400000, "amr": ["pwd"]}
ROLES = "urn:zitadel:iam:org:project:roles"
ADMITTED = {
    "llm-user": {"281125443186950000": "example.zitadel.cloud"},
    "admins": {"281125443186950000": "example.zitadel.cloud", "281125443186950001": "example.org"},
}
SHIBBOLETH = {**ADA, "sub": "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP", "eduperson_principal_name": "ada@example.org"}

FORMS: dict[str, Form] = {
    "Keycloak: realm roles": Form(
        {**KEYCLOAK, "realm_access": {"roles": ["default-roles-hpc", "offline_access", "staff"]}},
        KEYCLOAK,
        groups="realm_access.roles",
        person=(UUID, "Ada Example", "ada@example.org", ["default-roles-hpc", "offline_access", "staff"]),
    ),
    "Keycloak: roles of a client": Form(
        KEYCLOAK,
        {
            **KEYCLOAK,
            "resource_access": {"account": {"roles": ["view"]}, "chat.example.org": {"roles": ["a"]}},
        },
        groups="resource_access.chat.example.org.roles",
        person=(UUID, "Ada Example", "ada@example.org", ["a"]),
    ),
    "Keycloak: groups with full paths": Form(
        KEYCLOAK,
        {**KEYCLOAK, "groups": ["/hpc", "/hpc/staff", "/other"]},
        names={"/hpc/staff": "staff", "/hpc": "hpc"},
        person=(UUID, "Ada Example", "ada@example.org", ["hpc", "staff"]),
    ),
    "Keycloak: an audience for an API too": Form(
        {**KEYCLOAK, "aud": [CLIENT, "account"], "groups": ["hpc"]},
        None,
        person=(UUID, "Ada Example", "ada@example.org", ["hpc"]),
        metadata={"userinfo_endpoint": None},
    ),
    "Keycloak: realm_access named without its roles": Form(
        {**KEYCLOAK, "realm_access": {"roles": ["staff"]}},
        KEYCLOAK,
        groups="realm_access",
        person=(UUID, "Ada Example", "ada@example.org", []),
        refused=(302, "realm_access"),
    ),
    "Entra: groups by their object ids": Form(
        {**ENTRA, "groups": GUIDS},
        GRAPH,
        id="oid",
        email="preferred_username",
        names={GUIDS[1]: "staff"},
        person=(UUID, "Example, Ada", "ada@example.org", [GUIDS[0], "staff", GUIDS[2]]),
    ),
    "Entra: app roles": Form(
        {**ENTRA, "roles": ["LLM.User"], "_claim_names": {"groups": "src1"}},
        GRAPH,
        id="oid",
        groups="roles",
        names={"LLM.User": "users"},
        person=(UUID, "Example, Ada", "", ["users"]),
    ),
    "Entra: too many groups to list": Form(
        {
            **ENTRA,
            "_claim_names": {"groups": "src1"},
            "_claim_sources": {"src1": {"endpoint": f"https://graph.example/{UUID}/getMemberObjects"}},
        },
        GRAPH,
        refused=(403, "groups"),
    ),
    "Entra: too many groups to list, said in one word": Form(
        {**ENTRA, "hasgroups": True}, GRAPH, refused=(403, "groups")
    ),
    "Entra: the same as text": Form({**ENTRA, "hasgroups": "true"}, GRAPH, refused=(403, "groups")),
    "Zitadel: roles as an object": Form(
        {**ZITADEL, "azp": CLIENT, "aud": [CLIENT, "281125443186950002"], ROLES: ADMITTED},
        {**ZITADEL, ROLES: ADMITTED},
        groups=ROLES,
        person=("281125443186950146", "Ada Example", "ada@example.org", ["llm-user", "admins"]),
    ),
    "Zitadel: roles of one project": Form(
        {**ZITADEL, "azp": CLIENT, "aud": [CLIENT, "281125443186950002"]},
        {**ZITADEL, "urn:zitadel:iam:org:project:281125443186950002:roles": ADMITTED},
        groups="urn:zitadel:iam:org:project:281125443186950002:roles",
        names={"llm-user": "users"},
        person=("281125443186950146", "Ada Example", "ada@example.org", ["users", "admins"]),
    ),
    "Zitadel: several audiences and nobody named that may use it": Form(
        {**ZITADEL, "aud": [CLIENT, "281125443186950002"]}, ZITADEL, refused=(401, "azp")
    ),
    "Shibboleth: entitlements": Form(
        SHIBBOLETH,
        {**SHIBBOLETH, "eduperson_entitlement": [ENTITLED, "urn:mace:dir:entitlement:common-lib-terms"]},
        groups="eduperson_entitlement",
        names={ENTITLED: "users"},
        person=(SHIBBOLETH["sub"], "Ada Example", "ada@example.org", ["users"]),
    ),
    "Shibboleth: one entitlement, as a text": Form(
        SHIBBOLETH,
        {**SHIBBOLETH, "eduPersonEntitlement": ENTITLED},
        groups="eduPersonEntitlement",
        names={ENTITLED: "users"},
        person=(SHIBBOLETH["sub"], "Ada Example", "ada@example.org", ["users"]),
    ),
    "Shibboleth: memberships in one text": Form(
        SHIBBOLETH,
        {**SHIBBOLETH, "isMemberOf": f"hpc:llm;{DN};staff"},
        groups="isMemberOf",
        names={"hpc:llm": "users", DN: "llm"},
        person=(SHIBBOLETH["sub"], "Ada Example", "ada@example.org", ["users", "llm", "staff"]),
    ),
    "Shibboleth: names of a directory": Form(
        SHIBBOLETH,
        {**SHIBBOLETH, "isMemberOf": DN},
        groups="isMemberOf",
        names={DN: "llm"},
        person=(SHIBBOLETH["sub"], "Ada Example", "ada@example.org", ["llm"]),
    ),
    "Shibboleth: scoped affiliations": Form(
        SHIBBOLETH,
        {**SHIBBOLETH, "eduperson_scoped_affiliation": ["member@example.org", "staff@example.org"]},
        id="eduperson_principal_name",
        groups="eduperson_scoped_affiliation",
        names={"staff@example.org": "staff"},
        person=("ada@example.org", "Ada Example", "ada@example.org", ["staff"]),
    ),
    "EGI Check-in: entitlements": Form(
        {"sub": UNIQUE, "acr": "https://aai.egi.eu/LoA#Substantial", "voperson_id": UNIQUE},
        {
            **ADA,
            "sub": UNIQUE,
            "voperson_id": UNIQUE,
            "eduperson_unique_id": UNIQUE,
            "eduperson_entitlement": [VO, VO_ADMINS, "urn:mace:egi.eu:aai.egi.eu:member@vo.example.eu"],
            "eduperson_assurance": ["https://refeds.org/assurance/IAP/medium"],
        },
        id="voperson_id",
        groups="eduperson_entitlement",
        names={VO: "vo", VO_ADMINS: "vo-admins"},
        person=(UNIQUE, "Ada Example", "ada@example.org", ["vo", "vo-admins"]),
    ),
    "EGI Check-in: entitlements by their newer name": Form(
        {"sub": UNIQUE},
        {**ADA, "sub": UNIQUE, "entitlements": [VO]},
        groups="entitlements",
        names={VO: "vo"},
        person=(UNIQUE, "Ada Example", "ada@example.org", ["vo"]),
    ),
    "a number as sub": Form(
        {"sub": 4711}, {**ADA, "sub": 4711}, person=("4711", "Ada Example", "ada@example.org", [])
    ),
    "a number as sub, which userinfo has as a text": Form(
        {"sub": 9007199254740993},
        {**ADA, "sub": "9007199254740993"},
        person=("9007199254740993", "Ada Example", "ada@example.org", []),
    ),
    "a sub that is neither": Form({"sub": ["4711"]}, {**ADA, "sub": ["4711"]}, refused=(401, "sub")),
    "userinfo without sub": Form({"sub": UUID}, dict(ADA), refused=(502, "sub")),
    "no claim by the name that the site has for the identifier": Form(
        {"sub": UUID}, {**ADA, "sub": UUID}, id="uid", refused=(502, "uid")
    ),
    "means of authentication as a text": Form(
        {"sub": UUID, "amr": "pwd"}, {**ADA, "sub": UUID}, refused=(401, "amr")
    ),
    "a time as a text": Form({"sub": UUID, "iat": "1764400000"}, {**ADA, "sub": UUID}, refused=(401, "iat")),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
class TestForm:
    """A site that was set up for one provider."""

    @pytest.fixture
    def settings(self, settings: WebConfig, form: Form) -> WebConfig:
        """Settings that name the provider's claims and groups."""
        claims = Claims(form.id, "name", form.email, form.groups)
        oidc = dataclasses.replace(settings.oidc, claims=claims)
        return dataclasses.replace(settings, oidc=oidc, access=Access(names=dict(form.names)))

    def test_a_providers_claims_are_taken_or_the_log_names_the_claim(
        self,
        client: FlaskClient,
        database: Database,
        issuer: Issuer,
        form: Form,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        issuer.id_token, issuer.metadata = {"iss": ISSUER, **form.token}, dict(form.metadata)
        issuer.profile = None if form.profile is None else dict(form.profile)
        with caplog.at_level(logging.INFO):
            answer = issuer.sign_in(client)
        named = [vars(record).get("claim") for record in caplog.records]
        if form.refused:
            assert answer.status_code == form.refused[0]
            assert form.refused[1] in named
        if form.person is None:
            assert nothing_was_kept(client, database)
            return
        assert answer.status_code == 302
        (user,) = people(database)
        assert (user.subject, user.name, user.email, user.groups) == form.person
        left_out = sum(1 for record in caplog.records if "left out" in record.getMessage())
        assert left_out <= 1


def test_people_in_too_many_groups_for_entra_are_told_and_so_is_the_log_with_the_remedy(
    client: FlaskClient, database: Database, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    issuer.id_token = {"_claim_names": {"groups": "src1"}}
    issuer.claims.pop("groups")
    answer = issuer.sign_in(client)
    assert "You are in more groups than" in answer.text
    assert "groups assigned to the application" in caplog.text
    assert nothing_was_kept(client, database)
