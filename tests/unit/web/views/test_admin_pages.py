"""The administrators' pages: access, what each form does, and its entry in the audit log."""

from __future__ import annotations

import dataclasses
import re
import time

import pytest
from flask import Flask
from flask.testing import FlaskClient
from markupsafe import escape
from sqlalchemy import select
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from sluice.contracts.usage import UsageRecord
from sluice.web.admin import announcements, audit, stopped_models
from sluice.web.database.tables import ApiKey, AuditEntry, Database, SignedInBrowser, StoppedModel, User
from sluice.web.keys import credentials
from sluice.web.keys.credentials import KeySettings
from sluice.web.limits import admin_limits
from sluice.web.people import accounts
from sluice.web.settings.config import Access, LimitRule, WebConfig
from sluice.web.usage import ledger
from tests.unit.web.visitor import ISSUER, get, post, sign_in

_KEY = re.compile(r"sk-sluice-[A-Za-z0-9_-]{43}-[0-9a-f]{8}")


@pytest.fixture
def settings(settings: WebConfig) -> WebConfig:
    """A site with an administrator's group, projects and a limit of its inventory."""
    rights = Access(admins=("ops",), projects={"genomics": ("users",), "climate": ("sky",)})
    rules = (LimitRule("user:*", "", None, None, 1_000),)
    return dataclasses.replace(settings, access=rights, limits=rules)


@pytest.fixture
def admin(client: FlaskClient, database: Database) -> FlaskClient:
    """A browser in which an administrator has signed in."""
    sign_in(client, database, name="ada", groups=("ops",))
    return client


@pytest.fixture
def bob(app: Flask, database: Database) -> str:
    """The pseudonym of a user who is signed in elsewhere, and has a key and usage."""
    user = sign_in(app.test_client(), database, name="bob")
    with database.write() as session:
        row = session.get_one(User, user.id)
        secret = app.extensions["sluice"].settings.key_secret
        credentials.create_key(session, secret, row, KeySettings("laptop", 30), time.time())
        ledger.settle(session, database.dialect, [used(user.user, 900)])
    return user.user


@pytest.fixture
def robot(database: Database) -> str:
    """The pseudonym of a service account."""
    with database.write() as session:
        return accounts.upsert_service_account(
            session, name="robot", groups=["users"], now=time.time()
        ).pseudonym


def used(user: str, tokens: int, model: str = "smollm2-135m", project: str = "genomics") -> UsageRecord:
    number = time.perf_counter_ns()
    return UsageRecord(
        id=f"req-{number:032x}",
        time=time.time(),
        user=user,
        project=project,
        key_id="page-1",
        model=model,
        cluster="c",
        instance="",
        class_="interactive",
        path="/v1/chat/completions",
        status=200,
        code="",
        input_tokens=tokens // 3,
        output_tokens=tokens - tokens // 3,
        cached_tokens=0,
        measured=True,
        wait=0.0,
        first_byte=0.1,
        duration=0.0,
        bytes_in=1,
        bytes_out=1,
    )


def log(database: Database) -> list[AuditEntry]:
    with database.read() as session:
        return list(audit.entries(session))


def row_of(session: Session, pseudonym: str) -> User:
    return session.scalars(select(User).where(User.pseudonym == pseudonym)).one()


def followed(client: FlaskClient, answer: TestResponse) -> str:
    """Return the page to which a form's answer redirects."""
    assert answer.status_code == 303, answer.get_data(as_text=True)[-600:]
    return get(client, answer.location).get_data(as_text=True)


# --- Access ------------------------------------------------------------------------------------

_VALUES = {"user": "u-1", "key_id": "key-1", "project": "genomics", "number": "1"}


def routes(app: Flask, method: str) -> list[str]:
    found = []
    for rule in app.url_map.iter_rules():
        if rule.rule.startswith("/admin") and method in (rule.methods or ()):
            path = re.sub(r"<(?:\w+:)?(\w+)>", lambda name: _VALUES[name[1]], rule.rule)
            found.append(path)
    return sorted(found)


def test_every_page_refuses_users_who_are_not_administrators(
    app: Flask, client: FlaskClient, database: Database
) -> None:
    sign_in(client, database, groups=("users",))
    assert len(routes(app, "GET")) == 9
    for path in routes(app, "GET"):
        assert get(client, path).status_code == 403, path
    for path in routes(app, "POST"):
        assert post(client, path).status_code == 403, path
    assert log(database) == []


def test_every_page_redirects_to_sign_in(app: Flask, client: FlaskClient) -> None:
    for path in routes(app, "GET"):
        assert get(client, path).location == f"/auth/login?next={path}"


def test_every_form_refuses_without_the_token(app: Flask, admin: FlaskClient, database: Database) -> None:
    assert len(routes(app, "POST")) == 12
    for path in routes(app, "POST"):
        assert post(admin, path, "").status_code == 403, path
        assert post(admin, path, "x" * 43).status_code == 403, path
    assert log(database) == []


def test_every_form_on_the_pages_carries_the_token(
    app: Flask, admin: FlaskClient, database: Database, bob: str, robot: str
) -> None:
    _something_of_everything(admin)
    for path in (*routes(app, "GET"), f"/admin/users/{bob}", f"/admin/users/{robot}"):
        page = get(admin, path).get_data(as_text=True)
        for form in re.findall(r'<form method="post".*?</form>', page, re.DOTALL):
            assert 'name="csrf_token" value="' in form, path


def _something_of_everything(admin: FlaskClient) -> None:
    post(admin, "/admin/limits", whom="user:*", tokens_per_day="800")
    post(admin, "/admin/models/stop", model="old", new_model="1", message="Gone for good.")
    post(admin, "/admin/announcements", text="Down at ten", level="info")


def test_only_administrators_see_the_link_to_the_pages(
    app: Flask, admin: FlaskClient, database: Database
) -> None:
    assert 'href="/admin"' in get(admin, "/").get_data(as_text=True)
    other = app.test_client()
    sign_in(other, database)
    assert 'href="/admin"' not in get(other, "/").get_data(as_text=True)


def test_no_page_has_styles_or_scripts_of_its_own(
    app: Flask, admin: FlaskClient, database: Database, bob: str, robot: str
) -> None:
    _something_of_everything(admin)
    for path in (*routes(app, "GET"), f"/admin/users/{bob}", f"/admin/users/{robot}", "/usage"):
        page = get(admin, path).get_data(as_text=True)
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script>", page), path


def test_control_characters_in_addresses_and_forms_break_nothing(
    admin: FlaskClient, database: Database, bob: str
) -> None:
    for path in ("users?search=%00", "users/%00", "limits?scope=%00&model=%00", "audit?actor=%00&object=%0a"):
        assert get(admin, f"/admin/{path}").status_code in (200, 404), path
    nul = "a\x00"
    for path, status in (
        (f"users/{bob}/keys/%00/revoke", 404),
        ("users/%00/block", 404),
        ("limits/remove", 404),
        ("limits", 400),
        ("models/stop", 400),
        ("models/resume", 404),
        ("announcements", 400),
    ):
        fields = {"scope": nul, "model": nul, "text": nul, "level": "info", "concurrent": "1"}
        assert post(admin, f"/admin/{path}", **fields).status_code == status, path
    assert log(database) == []


def test_pages_of_an_empty_site_say_so(admin: FlaskClient) -> None:
    for path, words in (
        ("/admin", "Nobody has used a model in these days"),
        ("/admin/users?search=nobody", "Nobody was found"),
        ("/admin/limits", "No limit was set here"),
        ("/admin/models", "No model has been used"),
        ("/admin/announcements", "There are no announcements yet"),
        ("/admin/audit", "No administrator has done anything yet"),
        ("/admin/projects/climate", "No member has signed in yet"),
    ):
        answer = get(admin, path)
        assert answer.status_code == 200
        assert words in answer.get_data(as_text=True), path


# --- Overview and projects ---------------------------------------------------------------------------------


def test_the_overview_sums_the_service(admin: FlaskClient, bob: str) -> None:
    page = get(admin, "/admin").get_data(as_text=True)
    assert "900" in page
    assert "<svg" in page
    assert f'<a href="/admin/users/{bob}">Bob</a>' in page
    assert "smollm2-135m" in page


def test_projects_show_their_members_and_what_they_used(admin: FlaskClient, bob: str) -> None:
    page = get(admin, "/admin/projects").get_data(as_text=True)
    assert '<a href="/admin/projects/genomics">genomics</a>' in page
    page = get(admin, "/admin/projects/genomics").get_data(as_text=True)
    assert "Members: 1" in page
    assert f"/admin/users/{bob}" in page
    assert "900" in page
    assert get(admin, "/admin/projects/moon").status_code == 404


# --- Users -------------------------------------------------------------------------------------------------


def test_users_are_found_by_name_mail_and_pseudonym(admin: FlaskClient, bob: str, robot: str) -> None:
    for search in ("BOB", "bob@", bob[4:12]):
        page = get(admin, f"/admin/users?search={search}").get_data(as_text=True)
        assert bob in page
        assert robot not in page
    page = get(admin, "/admin/users?kind=service").get_data(as_text=True)
    assert robot in page
    assert bob not in page


def test_a_percent_sign_is_searched_for_literally(admin: FlaskClient, bob: str) -> None:
    assert bob not in get(admin, "/admin/users?search=%25").get_data(as_text=True)


def test_a_long_list_has_pages(admin: FlaskClient, database: Database) -> None:
    with database.write() as session:
        for number in range(60):
            accounts.upsert_service_account(session, name=f"robot-{number:02}", groups=["users"], now=1.0)
    first = get(admin, "/admin/users?search=robot-").get_data(as_text=True)
    assert "robot-49" in first
    assert "robot-50" not in first
    following = re.search(r'rel="next" href="([^"]+)"', first)
    assert following
    second = get(admin, following[1].replace("&amp;", "&")).get_data(as_text=True)
    assert "robot-50" in second
    assert 'rel="next"' not in second
    assert get(admin, "/admin/users?page=-7").status_code == 200
    assert get(admin, "/admin/users?page=99999999999").status_code == 200


def test_blocking_a_user_ends_their_sign_ins_and_is_logged(
    admin: FlaskClient, database: Database, bob: str
) -> None:
    page = followed(admin, post(admin, f"/admin/users/{bob}/block"))
    assert "Bob is blocked." in page
    with database.read() as session:
        row = row_of(session, bob)
        assert row.blocked is not None
        assert session.scalar(select(SignedInBrowser).where(SignedInBrowser.user_id == row.id)) is None
    (entry,) = log(database)
    assert (entry.action, entry.object, entry.after) == ("user.block", bob, {"blocked": True})
    page = followed(admin, post(admin, f"/admin/users/{bob}/unblock"))
    assert "no longer blocked" in page
    with database.read() as session:
        assert row_of(session, bob).blocked is None
    assert [entry.action for entry in log(database)] == ["user.unblock", "user.block"]


def test_blocking_twice_is_logged_once(admin: FlaskClient, database: Database, bob: str) -> None:
    for _ in range(2):
        post(admin, f"/admin/users/{bob}/block")
    assert len(log(database)) == 1


def test_nobody_blocks_themselves(client: FlaskClient, database: Database) -> None:
    ada = sign_in(client, database, name="ada", groups=("ops",))
    answer = post(client, f"/admin/users/{ada.user}/block")
    assert answer.status_code == 409
    assert "You cannot block yourself" in answer.get_data(as_text=True)
    assert log(database) == []


def test_signing_a_user_out_leaves_their_keys(admin: FlaskClient, database: Database, bob: str) -> None:
    page = followed(admin, post(admin, f"/admin/users/{bob}/sign-out"))
    assert "Sign-ins ended: 1." in page
    with database.read() as session:
        assert len(session.scalars(select(SignedInBrowser)).all()) == 1
        assert session.scalars(select(ApiKey)).one().revoked is None
    assert log(database)[0].action == "user.sign_out"


def test_all_keys_of_a_user_are_revoked(admin: FlaskClient, database: Database, bob: str) -> None:
    page = followed(admin, post(admin, f"/admin/users/{bob}/revoke-keys"))
    assert "Working until now: 1." in page
    with database.read() as session:
        assert session.scalars(select(ApiKey)).one().revoked is not None
    assert log(database)[0].before == {"keys": 1}


def test_an_action_on_an_unknown_user_is_not_found(admin: FlaskClient, database: Database) -> None:
    for action in ("block", "unblock", "sign-out", "revoke-keys", "keys", "keys/key-1/revoke"):
        assert post(admin, f"/admin/users/u-nobody/{action}", name="x").status_code == 404, action
    assert log(database) == []


def test_a_name_from_the_provider_cannot_become_markup(
    app: Flask, admin: FlaskClient, database: Database
) -> None:
    mallory = sign_in(app.test_client(), database, name="<img src=x onerror=alert(1)>")
    for path in ("/admin/users", f"/admin/users/{mallory.user}"):
        page = get(admin, path).get_data(as_text=True)
        assert "<img src=x" not in page.lower(), path


# --- Keys --------------------------------------------------------------------------------------------------


def test_a_key_of_a_service_account_is_shown_once(admin: FlaskClient, database: Database, robot: str) -> None:
    answer = post(admin, f"/admin/users/{robot}/keys", name="nightly", days="7")
    found = _KEY.search(followed(admin, answer))
    assert found
    assert found[0] not in get(admin, answer.location).get_data(as_text=True)
    assert found[0] not in get(admin, f"/admin/users/{robot}").get_data(as_text=True)
    (entry,) = log(database)
    assert entry.action == "key.create"
    assert found[0] not in str(vars(entry))


def test_a_key_of_a_service_account_can_be_kept_short(
    admin: FlaskClient, database: Database, robot: str
) -> None:
    fields = {"name": "nightly", "project": "genomics", "models": "a, b", "tokens_per_day": "5000"}
    assert post(admin, f"/admin/users/{robot}/keys", **fields).status_code == 303
    with database.read() as session:
        row = session.scalars(select(ApiKey)).one()
    assert (row.project, row.models, row.tokens_per_day) == ("genomics", ["a", "b"], 5_000)
    refused = post(admin, f"/admin/users/{robot}/keys", **{**fields, "project": "climate"})
    assert refused.status_code == 400
    assert 'value="5000"' in refused.get_data(as_text=True)


BAD_KEYS: list[tuple[dict[str, str], str]] = [
    ({"name": ""}, "the text is empty"),
    ({"name": "x", "days": "0"}, "from 1 to 180"),
    ({"name": "x", "days": "181"}, "from 1 to 180"),
    ({"name": "x", "days": "soon"}, "180"),
    ({"name": "a\u202eb"}, "reading direction"),
]


def test_an_invalid_key_is_refused_with_the_reason(
    admin: FlaskClient, database: Database, robot: str
) -> None:
    for fields, words in BAD_KEYS:
        answer = post(admin, f"/admin/users/{robot}/keys", **fields)
        assert answer.status_code == 400
        assert words in answer.get_data(as_text=True)
    assert log(database) == []


def test_trying_to_make_a_key_of_a_person(admin: FlaskClient, database: Database, bob: str) -> None:
    answer = post(admin, f"/admin/users/{bob}/keys", name="mine")
    assert answer.status_code == 400
    assert "Only a person can create" in answer.get_data(as_text=True)
    assert _KEY.search(answer.get_data(as_text=True)) is None
    assert log(database) == []


def test_one_key_is_revoked(admin: FlaskClient, database: Database, bob: str, robot: str) -> None:
    with database.read() as session:
        key_id = session.scalars(select(ApiKey)).one().id
    assert post(admin, f"/admin/users/{robot}/keys/{key_id}/revoke").status_code == 404
    page = followed(admin, post(admin, f"/admin/users/{bob}/keys/{key_id}/revoke"))
    assert "“laptop” is revoked" in page
    post(admin, f"/admin/users/{bob}/keys/{key_id}/revoke")
    (entry,) = log(database)
    assert (entry.action, entry.object) == ("key.revoke", key_id)


# --- Limits ------------------------------------------------------------------------------------------------


def test_a_limit_is_set_changed_and_removed(admin: FlaskClient, database: Database) -> None:
    page = followed(
        admin, post(admin, "/admin/limits", whom="site", model="big", new_model="1", tokens_per_day="5000")
    )
    assert "The limit for site big is set." in page
    form = get(admin, "/admin/limits?scope=site&model=big").get_data(as_text=True)
    assert "Change a limit" in form
    assert 'value="5000"' in form
    followed(admin, post(admin, "/admin/limits", whom="site", model="big", concurrent="3"))
    with database.read() as session:
        (row,) = admin_limits.listed(session)
        assert (row.tokens_per_day, row.concurrent) == (None, 3)
    page = followed(admin, post(admin, "/admin/limits/remove", scope="site", model="big"))
    assert "is removed" in page
    assert post(admin, "/admin/limits/remove", scope="site", model="big").status_code == 404
    assert [entry.action for entry in log(database)] == ["limit.remove", "limit.set", "limit.set"]


BAD_LIMITS: list[tuple[dict[str, str], str]] = [
    ({"whom": "all", "concurrent": "1"}, "Choose for whom"),
    ({"concurrent": "1"}, "Choose for whom"),
    ({"whom": "site"}, "would limit nothing"),
    ({"whom": "site", "concurrent": "many"}, "“many” is not a whole number"),
    ({"whom": "site", "concurrent": "1.5"}, "“1.5” is not a whole number"),
    ({"whom": "project", "who": "moon", "concurrent": "1"}, "climate"),
    ({"whom": "project", "who": "", "concurrent": "1"}, "A name is missing"),
    ({"whom": "group", "who": "*", "concurrent": "1"}, "“*” is not a name of a group"),
    ({"whom": "group", "who": "users:users", "concurrent": "1"}, "is not a name of a group"),
    ({"whom": "key", "who": "key-1", "concurrent": "1"}, "no key key-1"),
    ({"whom": "user", "who": "nobody at all", "concurrent": "1"}, "No user fits nobody at all"),
    ({"whom": "user", "who": "<script>", "concurrent": "1"}, "No user fits &lt;script&gt;"),
    ({"whom": "user", "who": "b" * 90, "concurrent": "1"}, "No user fits bbb"),
    ({"whom": "user", "who": "bob", "user": "u-0000", "concurrent": "1"}, "no user u-0000"),
]


def test_a_limit_that_makes_no_sense_is_refused_and_kept_in_the_form(
    admin: FlaskClient, database: Database, bob: str
) -> None:
    before = len(log(database))
    for fields, words in BAD_LIMITS:
        answer = post(admin, "/admin/limits", **fields)
        page = answer.get_data(as_text=True)
        assert answer.status_code == 400, fields
        assert words in page, fields
        assert f'name="who" value="{escape(fields.get("who", ""))}"' in page
        if fields.get("whom") in ("site", "project", "group", "key", "user"):
            assert f'<option value="{fields["whom"]}" selected>' in page
    assert len(log(database)) == before


def users(database: Database, *people: tuple[str, str]) -> list[str]:
    """Let people with these names and mail addresses sign in; return their pseudonyms."""
    with database.write() as session:
        return [
            accounts.upsert_person(
                session, issuer=ISSUER, subject=f"s-{mail}", name=name, email=mail, groups=["users"], now=1.0
            ).pseudonym
            for name, mail in people
        ]


@pytest.mark.parametrize("typed", ["Grace Hopper", "hopper", "GRACE@example.org", "s-grace@example.org"])
def test_a_limit_is_set_for_the_user_whom_a_name_fits(
    admin: FlaskClient, database: Database, typed: str
) -> None:
    grace, _ = users(database, ("Grace Hopper", "grace@example.org"), ("Graçe Kelly", "kelly@example.org"))
    page = followed(admin, post(admin, "/admin/limits", whom="user", who=typed, concurrent="1"))
    assert f"user:{grace}" in page
    form = get(admin, f"/admin/limits?scope=user:{grace}").get_data(as_text=True)
    assert '<option value="user" selected>' in form and "User Grace Hopper" in form


def test_of_several_users_one_is_chosen(admin: FlaskClient, database: Database) -> None:
    pseudonyms = users(database, *((f"Kim {number}", f"kim{number}@example.org") for number in range(12)))
    answer = post(admin, "/admin/limits", whom="user", who="kim", concurrent="7")
    page = answer.get_data(as_text=True)
    assert answer.status_code == 400 and "12 users fit kim" in page
    assert page.count('type="radio" name="user"') == 10
    assert 'name="concurrent" value="7"' in page
    fields = {"whom": "user", "who": "kim", "concurrent": "7", "user": pseudonyms[3]}
    assert f"user:{pseudonyms[3]}" in followed(admin, post(admin, "/admin/limits", **fields))


def test_a_whole_name_fits_better_than_a_part(admin: FlaskClient, database: Database) -> None:
    kim, _ = users(database, ("Kim", "kim@example.org"), ("Kimberly", "kimberly@example.org"))
    assert f"user:{kim}" in followed(
        admin, post(admin, "/admin/limits", whom="user", who="KIM", concurrent="1")
    )


@pytest.mark.parametrize(
    ("scope", "choice", "name"),
    [
        ("site", "site", ""),
        ("key:*", "key:*", ""),
        ("member:users", "member", "users"),
        ("project:climate", "project", "climate"),
    ],
)
def test_a_scope_is_shown_as_it_was_chosen(admin: FlaskClient, scope: str, choice: str, name: str) -> None:
    page = get(admin, f"/admin/limits?scope={scope}").get_data(as_text=True)
    assert f'<option value="{choice}" selected>' in page
    assert f'name="who" value="{name}"' in page


def test_users_close_to_a_limit_are_shown(admin: FlaskClient, bob: str) -> None:
    page = get(admin, "/admin/limits").get_data(as_text=True)
    assert "100 left of 1,000" in page
    assert f'<a href="/admin/users/{bob}">' in page
    assert "User Bob" in page


# --- Models ------------------------------------------------------------------------------------------------


def test_a_model_is_stopped_with_a_message_and_resumed(
    admin: FlaskClient, database: Database, bob: str
) -> None:
    page = followed(admin, post(admin, "/admin/models/stop", model="smollm2-135m", message="Back at noon."))
    assert "Back at noon." in page
    with database.read() as session:
        assert [stop.model for stop in stopped_models.stops_for_proxy(session)] == ["smollm2-135m"]
    page = followed(admin, post(admin, "/admin/models/resume", model="smollm2-135m"))
    assert "accepts requests again" in page
    assert post(admin, "/admin/models/resume", model="smollm2-135m").status_code == 404
    assert [entry.action for entry in log(database)] == ["admission.resume", "admission.stop"]


def test_a_model_that_nobody_used_can_be_stopped(admin: FlaskClient) -> None:
    page = followed(admin, post(admin, "/admin/models/stop", model="next-big-thing", new_model="1"))
    assert 'data-model="next-big-thing"' in page


@pytest.mark.parametrize("path", ["/admin/models/stop", "/admin/limits"])
def test_an_unknown_model_is_refused_with_the_nearest_name(admin: FlaskClient, bob: str, path: str) -> None:
    answer = post(admin, path, model="smollm2-135n", whom="site", concurrent="1")
    assert answer.status_code == 400
    assert "The nearest name is: smollm2-135m." in answer.get_data(as_text=True)
    followed(admin, post(admin, path, model="smollm2-135n", whom="site", concurrent="1", new_model="1"))


@pytest.mark.parametrize("kind", ["group", "member"])
def test_an_unknown_group_is_refused_with_the_nearest_name(admin: FlaskClient, bob: str, kind: str) -> None:
    answer = post(admin, "/admin/limits", whom=kind, who="user", concurrent="1")
    assert answer.status_code == 400
    assert "There is no group user. The nearest name is: users." in answer.get_data(as_text=True)
    followed(admin, post(admin, "/admin/limits", whom=kind, who="users", concurrent="1"))


def test_a_stop_without_a_valid_model_is_refused(admin: FlaskClient, database: Database) -> None:
    answer = post(admin, "/admin/models/stop", model="a b")
    assert answer.status_code == 400
    assert "is not the name of a model" in answer.get_data(as_text=True)
    with database.read() as session:
        assert session.scalars(select(StoppedModel)).all() == []


# --- Announcements -----------------------------------------------------------------------------------------


def test_an_announcement_is_shown_above_every_page_until_it_is_ended(
    app: Flask, admin: FlaskClient, database: Database
) -> None:
    followed(admin, post(admin, "/admin/announcements", text="Down at <ten>", level="warning"))
    untrusted = app.test_client()
    for visitor, path in ((admin, "/"), (admin, "/keys"), (untrusted, "/"), (admin, "/usage")):
        page = get(visitor, path).get_data(as_text=True)
        assert 'role="status"' in page, path
        assert "Down at &lt;ten&gt;" in page, path
    with database.read() as session:
        number = announcements.listed(session)[0].id
    page = followed(admin, post(admin, f"/admin/announcements/{number}/end"))
    assert "data-announcement" not in page
    assert post(admin, f"/admin/announcements/{number}/end").status_code == 404


def test_an_announcement_can_be_planned(admin: FlaskClient, database: Database) -> None:
    day = time.strftime("%Y-%m-%dT10:00", time.gmtime(time.time() + 2 * 86_400))
    page = followed(
        admin,
        post(admin, "/admin/announcements", text="Soon", level="info", starts=day, ends=day[:11] + "11:00"),
    )
    assert "planned" in page
    assert "data-announcement" not in page
    with database.read() as session:
        row = announcements.listed(session)[0]
    assert row.ends is not None
    assert row.ends - row.starts == 3600


BAD_ANNOUNCEMENTS: list[tuple[dict[str, str], str]] = [
    ({"text": "", "level": "info"}, "the text is empty"),
    ({"text": "x", "level": "loud"}, "must be one of: info, warning"),
    ({"text": "x", "level": "info", "starts": "tomorrow"}, "“tomorrow” is not a time"),
    ({"text": "x", "level": "info", "ends": "2020-01-01T00:00"}, "must be later than now"),
]


def test_an_announcement_that_makes_no_sense_is_refused(admin: FlaskClient, database: Database) -> None:
    for fields, words in BAD_ANNOUNCEMENTS:
        answer = post(admin, "/admin/announcements", **fields)
        assert answer.status_code == 400
        assert words in answer.get_data(as_text=True)
    assert log(database) == []


# --- The log -----------------------------------------------------------------------------------------------


def test_the_log_shows_who_did_what_before_and_after(admin: FlaskClient, bob: str) -> None:
    post(admin, "/admin/limits", whom="site", concurrent="3")
    post(admin, "/admin/limits", whom="site", concurrent="4")
    post(admin, f"/admin/users/{bob}/block")
    page = get(admin, "/admin/audit").get_data(as_text=True)
    assert ">Ada</a>" in page
    assert ">Bob</a>" in page
    assert re.search(r"<del>.*?3</del>.*?<ins>.*?4</ins>", page, re.DOTALL)
    filtered = get(admin, "/admin/audit?action=user.block").get_data(as_text=True)
    assert "limit.set</code>" not in filtered
    assert "user.block</code>" in filtered


def test_the_log_is_found_by_the_names_of_people(admin: FlaskClient, database: Database) -> None:
    grace, other = users(database, ("Grace Hopper", "grace@example.org"), ("Kim", "kim@example.org"))
    for pseudonym in (grace, other):
        followed(admin, post(admin, "/admin/limits", whom="user", who=pseudonym, concurrent="1"))
        followed(admin, post(admin, f"/admin/users/{pseudonym}/block"))
    page = get(admin, "/admin/audit?object=hopper").get_data(as_text=True)
    assert page.count(f'href="/admin/users/{grace}"') == 1 and f"user:{grace}" in page
    assert other not in page
    assert "/admin/users/" in get(admin, "/admin/audit?actor=ada").get_data(as_text=True)
    for nobody in ("actor=hopper", "object=nobody+at+all", "actor=%25", "object=" + "x" * 200):
        assert 'id="no-entries"' in get(admin, f"/admin/audit?{nobody}").get_data(as_text=True)


def test_the_log_is_filtered_by_time_and_invalid_times_are_refused(admin: FlaskClient, bob: str) -> None:
    post(admin, f"/admin/users/{bob}/block")
    page = get(admin, "/admin/audit?since=2020-01-01&until=2020-01-02").get_data(as_text=True)
    assert "Nothing was found" in page
    answer = get(admin, "/admin/audit?since=yesterday")
    assert answer.status_code == 400
    assert "“yesterday” is not a time" in answer.get_data(as_text=True)


def test_the_pages_of_the_log_keep_the_filter(admin: FlaskClient, database: Database) -> None:
    with database.write() as session:
        for number in range(55):
            audit.add(session, audit.OPERATOR, "limit.set", f"user:{number}", None, {"concurrent": 1}, 1.0)
    first = get(admin, "/admin/audit?actor=operator").get_data(as_text=True)
    following = re.search(r'rel="next" href="([^"]+)"', first)
    assert following
    assert "actor=operator" in following[1]
    second = get(admin, following[1].replace("&amp;", "&")).get_data(as_text=True)
    assert "user:4<" in second
    assert "user:54<" not in second
    assert 'rel="next"' not in second
