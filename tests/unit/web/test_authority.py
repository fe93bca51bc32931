"""The authority's answers, against the contract's examples."""

from __future__ import annotations

import copy
import json
import time
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import delete, select

from sluice.contracts.authority import Principal, Spent
from sluice.web.database.tables import ApiKey, Database, SignedInBrowser, StoppedModel, Usage, User
from sluice.web.keys import credentials, generation
from sluice.web.people import sign_ins
from sluice.web.people.accounts import upsert_person
from sluice.web.settings.config import WebConfig

GOLDEN = Path(__file__).parents[2] / "golden" / "contracts"


def example(name: str) -> Any:
    return json.loads((GOLDEN / f"{name}.json").read_text())


@pytest.fixture
def user(database: Database) -> User:
    with database.write() as session:
        return upsert_person(
            session,
            issuer="https://idp.example.org",
            subject="alice",
            name="Alice",
            email="alice@example.org",
            groups=["users"],
            now=1.0,
        )


def make_key(database: Database, settings: WebConfig, user: User, days: int = 1) -> credentials.NewKey:
    with database.write() as session:
        wanted = credentials.KeySettings("a key", days)
        return credentials.create_key(session, settings.key_secret, user, wanted, time.time())


def ask(authority: FlaskClient, key: str) -> tuple[int, Any]:
    answer = authority.post("/v1/principal", json={"version": 1, "credential": generation.credential(key)})
    return answer.status_code, answer.get_json()


def test_a_key_is_answered_with_its_principal(
    authority: FlaskClient, database: Database, settings: WebConfig, user: User
) -> None:
    new = make_key(database, settings, user)
    status, answer = ask(authority, new.text)
    assert status == 200
    principal = Principal.parse(answer["principal"])
    assert principal.user == user.pseudonym
    assert (principal.kind, principal.class_, principal.groups) == ("api_key", "api", ("users",))
    assert principal.expires == pytest.approx(time.time() + 86_400, abs=60)
    assert answer.keys() == example("authority-answer").keys()
    assert answer["principal"].keys() == example("authority-answer")["principal"].keys()


def test_the_example_question_is_understood_and_its_key_unknown(authority: FlaskClient) -> None:
    answer = authority.post("/v1/principal", json=example("authority-question"))
    assert answer.status_code == 404
    assert answer.get_json() == {"version": 1, "principal": None}


def test_trying_a_revoked_key(
    authority: FlaskClient, database: Database, settings: WebConfig, user: User
) -> None:
    new = make_key(database, settings, user)
    with database.write() as session:
        assert credentials.revoke_key(session, user.id, new.row.id, time.time())
    assert ask(authority, new.text) == (404, {"version": 1, "principal": None})


def test_trying_an_expired_key(
    authority: FlaskClient, database: Database, settings: WebConfig, user: User
) -> None:
    new = make_key(database, settings, user)
    with database.write() as session:
        session.get_one(ApiKey, new.row.id).expires = time.time() - 1
    assert ask(authority, new.text) == (404, {"version": 1, "principal": None})


def test_trying_a_key_of_another_secret(
    authority: FlaskClient, database: Database, settings: WebConfig, user: User
) -> None:
    new = make_key(database, settings, user)
    with database.write() as session:
        session.get_one(ApiKey, new.row.id).secret_id = "0"
    assert ask(authority, new.text)[0] == 404


def test_trying_what_the_database_holds_as_a_credential(
    authority: FlaskClient, database: Database, settings: WebConfig, user: User
) -> None:
    stored = make_key(database, settings, user).row.stored
    answer = authority.post("/v1/principal", json={"version": 1, "credential": stored})
    assert answer.status_code == 404


def begin_sign_in(database: Database, user: User, tag: str = "tag") -> None:
    with database.write() as session:
        sign_ins.begin(session, tag=tag, user_id=user.id, sid="", subject=user.subject, now=time.time())


def test_a_page_bearer_is_interactive_and_ends_with_its_time_and_its_sign_in(
    authority: FlaskClient, database: Database, settings: WebConfig, user: User
) -> None:
    now = time.time()
    begin_sign_in(database, user)
    with database.write() as session:
        old = credentials.create_bearer(session, settings.key_secret, user.id, "tag", 600, now - 700)
        live = credentials.create_bearer(session, settings.key_secret, user.id, "tag", 600, now)
    assert ask(authority, old)[0] == 404
    status, answer = ask(authority, live)
    assert status == 200
    assert (answer["principal"]["kind"], answer["principal"]["class"]) == ("page", "interactive")
    with database.write() as session:
        session.execute(delete(SignedInBrowser))
    assert ask(authority, live)[0] == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", None),
        (b"[]", None),
        (b'{"version": 1}', "credential"),
        (b'{"version": 2, "credential": "00"}', "version"),
        (b'{"version": 1, "credential": "sk-sluice-key-in-clear"}', "credential"),
        (b'{"version": 1, "credential": 7}', "credential"),
    ],
)
def test_a_question_of_the_wrong_form_is_refused(
    authority: FlaskClient, body: bytes, field: str | None
) -> None:
    answer = authority.post("/v1/principal", data=body)
    assert answer.status_code == 400
    assert answer.get_json()["error"]["code"] in ("invalid_request", "malformed_json")
    assert answer.get_json()["error"]["param"] == field


def test_spent_tokens_are_returned_in_the_order_of_the_buckets(
    authority: FlaskClient, database: Database, settings: WebConfig, user: User
) -> None:
    key_id = make_key(database, settings, user).row.id
    record = {**example("usage-record"), "user": user.pseudonym, "key_id": key_id}
    authority.post("/v1/usage", json={"version": 1, "records": [record]})
    buckets = [{"scope": f"key:{key_id}", "model": ""}, {"scope": "user:u-nobody", "model": record["model"]}]
    question = {"version": 1, "buckets": buckets, "now": record["time"] + record["duration"] + 1}
    answer = authority.post("/v1/spent", json=question).get_json()
    assert [Spent.parse(item) for item in answer["spent"]] == [
        Spent(
            scope=f"key:{key_id}",
            model="",
            requests=((int(record["time"]), 1),),
            tokens=(
                (int(record["time"] + record["duration"]), record["input_tokens"] + record["output_tokens"]),
            ),
            tokens_today=record["input_tokens"] + record["output_tokens"],
        ),
        Spent("user:u-nobody", record["model"], (), (), 0),
    ]
    assert answer.keys() == example("authority-spent").keys()
    assert answer["spent"][0].keys() == example("authority-spent")["spent"][0].keys()


def test_the_example_question_of_what_was_spent_is_understood(authority: FlaskClient) -> None:
    answer = authority.post("/v1/spent", json=example("authority-spent-question")).get_json()
    asked = [(bucket["scope"], bucket["model"]) for bucket in example("authority-spent-question")["buckets"]]
    assert [(item["scope"], item["model"]) for item in answer["spent"]] == asked


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"buckets": [{"scope": "user:*"}]}, "buckets[0].scope"),
        ({"buckets": [{"scope": "site", "model": "../x"}]}, "buckets[0].model"),
        ({"buckets": [{"scope": "site"}] * 201}, "buckets"),
        ({"now": "yesterday"}, "now"),
        ({"version": 2}, "version"),
    ],
)
def test_a_question_of_the_wrong_form_about_what_was_spent_is_refused(
    authority: FlaskClient, changes: dict[str, Any], field: str
) -> None:
    answer = authority.post("/v1/spent", json={"version": 1, "buckets": [], "now": 1.0, **changes})
    assert (answer.status_code, answer.get_json()["error"]["param"]) == (400, field)


def test_stopped_models_are_returned(authority: FlaskClient, database: Database) -> None:
    told = example("authority-gateway")
    assert authority.get("/v1/gateway").get_json() == {**told, "stopped": []}
    with database.write() as session:
        for stop in told["stopped"]:
            session.add(StoppedModel(model=stop["model"], message=stop["message"], since=1.0))
    assert authority.get("/v1/gateway").get_json() == told


def test_usage_is_counted_once_however_often_it_comes(
    authority: FlaskClient, database: Database, settings: WebConfig, user: User
) -> None:
    new = make_key(database, settings, user)
    record = {**example("usage-record"), "user": user.pseudonym, "key_id": new.row.id}
    other = {**copy.deepcopy(record), "id": "req-" + "f" * 32, "time": record["time"] + 5}
    for records in ([record], [record, other], [other, other]):
        answer = authority.post("/v1/usage", json={"version": 1, "records": records})
        assert (answer.status_code, answer.get_json()) == (200, {"version": 1, "accepted": len(records)})
    with database.read() as session:
        rows = session.scalars(select(Usage).order_by(Usage.time)).all()
        used = session.get_one(ApiKey, new.row.id).last_used
    assert [row.id for row in rows] == [record["id"], other["id"]]
    assert (rows[0].input_tokens, rows[0].class_, rows[0].measured) == (12, "api", True)
    assert used == record["time"] + 5


def test_an_empty_batch_of_records_is_accepted(authority: FlaskClient) -> None:
    answer = authority.post("/v1/usage", json={"version": 1, "records": []})
    assert answer.get_json() == {"version": 1, "accepted": 0}


def test_one_bad_record_refuses_the_batch_and_is_named(authority: FlaskClient, database: Database) -> None:
    records = [example("usage-record"), {**example("usage-record"), "model": "../etc"}]
    answer = authority.post("/v1/usage", json={"version": 1, "records": records})
    assert answer.status_code == 400
    assert answer.get_json()["error"]["param"] == "records[1].model"
    with database.read() as session:
        assert session.scalars(select(Usage)).all() == []


def test_more_than_a_thousand_records_are_refused(authority: FlaskClient) -> None:
    answer = authority.post("/v1/usage", json={"version": 1, "records": [{}] * 1001})
    assert answer.status_code == 400


def test_health_says_ok(authority: FlaskClient) -> None:
    assert authority.get("/health").get_json() == {"version": 1, "status": "ok"}


def test_other_paths_and_methods_are_refused_in_openais_shape(authority: FlaskClient) -> None:
    assert authority.get("/v1/keys").get_json()["error"]["code"] == "path_not_found"
    assert authority.get("/v1/principal").get_json()["error"]["code"] == "method_not_allowed"
