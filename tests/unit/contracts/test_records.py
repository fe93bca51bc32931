"""The golden examples of docs/contracts.md are exactly what the records read and write."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from sluice.contracts import (
    authority,
    demand,
    encoding,
    files,
    heads,
    jobs,
    metrics,
    models,
    orders,
    routing,
    status,
    usage,
)
from sluice.errors import RecordError, SluiceError

GOLDEN = Path(__file__).parents[2] / "golden" / "contracts"

STANDING: dict[str, Any] = {
    "wire-request.json": heads.RequestHead,
    "wire-instance-request.json": heads.InstanceRequest,
    "wire-response.json": heads.ResponseHead,
    "wire-request-again.json": heads.RequestHead,
    "wire-error.json": heads.ErrorHead,
    "wire-demand.json": heads.DemandHead,
    "wire-models.json": status.ModelsAnswer,
    "wire-metrics.json": metrics.MetricsSnapshot,
    "figures.json": metrics.MetricsSnapshot,
    "model-entry.json": models.ModelEntry,
    "job-record.json": jobs.JobRecord,
    "model-orders.json": orders.ModelOrders,
    "node-orders.json": orders.NodeOrders,
    "routing-table.json": routing.RoutingTable,
    "demand-file.json": demand.DemandFile,
    "usage-record.json": usage.UsageRecord,
}


def golden(name: str) -> Any:
    return json.loads((GOLDEN / name).read_text())


@pytest.mark.parametrize("name", STANDING)
def test_a_golden_example_survives_parse_and_dump(name: str) -> None:
    document = golden(name)
    record = STANDING[name].parse(document)
    assert (json.loads(record.encode()) if hasattr(record, "encode") else record.dump()) == document


def test_the_golden_principal_survives_parse_and_dump() -> None:
    answer = golden("authority-answer.json")
    assert authority.Principal.parse(answer["principal"]).dump() == answer["principal"]


@pytest.mark.parametrize(
    ("name", "list_", "record"),
    [
        ("authority-spent.json", "spent", authority.Spent),
        ("authority-gateway.json", "stopped", authority.Stop),
    ],
)
def test_what_the_authority_lists_survives_parse_and_dump(name: str, list_: str, record: Any) -> None:
    (item, *_) = items = golden(name)[list_]
    assert item
    # Compared as JSON, because pairs are tuples here and lists there.
    assert json.loads(json.dumps([record.parse(item).dump() for item in items])) == items


def test_the_golden_error_is_what_an_error_dumps() -> None:
    document = golden("error.json")
    error = SluiceError("no_instance", document["error"]["message"])
    assert error.to_openai(document["error"]["request_id"]) == document


def test_contracts_name_every_golden_example() -> None:
    text = (Path(__file__).parents[3] / "docs" / "contracts.md").read_text()
    for example in GOLDEN.iterdir():
        assert f"`{example.name}`" in text, f"docs/contracts.md does not name {example.name}"


@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("job-record.json", jobs.JobRecord),
        ("demand-file.json", demand.DemandFile),
        ("wire-request.json", heads.RequestHead),
        ("model-entry.json", models.ModelEntry),
        ("model-orders.json", orders.ModelOrders),
        ("node-orders.json", orders.NodeOrders),
    ],
)
def test_what_comes_from_outside_may_not_carry_unknown_fields(name: str, record: Any) -> None:
    document = golden(name) | {"surprise": 1}
    with pytest.raises(RecordError) as caught:
        record.parse(document)
    assert caught.value.field == "surprise"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("host", "c1/../../etc"),
        ("host", "c1\n"),
        ("port", 22),
        ("port", True),
        ("port", "20417"),
        ("key", "short"),
        ("instance", "../x-3fa9c1d2"),
        ("nonce", "3FA9C1D2"),
        ("job_id", "17;scancel"),
        ("certificate", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"),
        ("version", 2),
        ("started", float("nan")),
        ("started", None),
    ],
)
def test_a_hostile_job_record_is_refused_by_field(field: str, value: object) -> None:
    document = golden("job-record.json") | {field: value}
    with pytest.raises(RecordError) as caught:
        jobs.JobRecord.parse(document)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("name", "a b"),
        ("min", 5),
        ("slurm.partition", ""),
        ("slurm.time", 0),
        ("slurm.extra", ["--wrap=rm x"]),
        ("weights", "/a/../b c"),
        ("groups", ["A"]),
        ("environment", {"lower": "x"}),
        ("environment", {"X": "a\nb"}),
        ("capabilities", ["root"]),
        ("usage", "always"),
        ("engine_args", ["a\x00"]),
    ],
)
def test_a_wrong_model_entry_is_refused_by_field(path: str, value: object) -> None:
    document = copy.deepcopy(golden("model-entry.json"))
    target = document
    *parents, last = path.split(".")
    for parent in parents:
        target = target[parent]
    target[last] = value
    with pytest.raises(RecordError) as caught:
        models.ModelEntry.parse(document)
    assert caught.value.field.split("[")[0] == path


def test_a_model_entry_fills_in_its_defaults() -> None:
    document = golden("model-entry.json")
    small = {key: document[key] for key in ("name", "engine", "weights", "context_length")}
    small["slurm"] = {"partition": "normal", "time": 60, "cpus": 1, "memory_mb": 100}
    entry = models.ModelEntry.parse(small)
    assert (entry.min, entry.max, entry.groups, entry.slurm.gpus) == (0, 1, ("all",), 0)


@pytest.mark.parametrize(
    ("engine", "usage"),
    [
        ("vllm", "continuous"),
        ("vllm-apptainer", "continuous"),
        ("vllm-modules", "continuous"),
        ("llama-cpp", "final"),
        ("sglang", "none"),
    ],
)
def test_what_an_engine_says_of_tokens_is_known_by_its_name(engine: str, usage: str) -> None:
    document = golden("model-entry.json") | {"engine": engine}
    del document["usage"]
    assert models.ModelEntry.parse(document).usage == usage
    assert models.ModelEntry.parse(document | {"usage": "final"}).usage == "final"


def test_what_an_older_scheduler_or_relay_wrote_asks_no_engine_for_usage() -> None:
    answer = golden("wire-models.json")
    table = golden("routing-table.json")
    del answer["models"][0]["usage"]
    del table["models"]["smollm2-135m"]["usage"]
    assert status.ModelsAnswer.parse(answer).models[0].usage == "none"
    assert routing.RoutingTable.parse(table).models["smollm2-135m"].usage == "none"


def test_an_older_reader_leaves_out_what_a_newer_one_serves() -> None:
    table, answer = golden("routing-table.json"), golden("wire-models.json")
    newer = ["chat", "telepathy"]
    table["models"]["smollm2-135m"]["capabilities"] = newer
    answer["models"][0]["capabilities"] = newer
    assert routing.RoutingTable.parse(table).models["smollm2-135m"].capabilities == ("chat",)
    assert status.ModelsAnswer.parse(answer).models[0].capabilities == ("chat",)
    with pytest.raises(RecordError):
        models.ModelEntry.parse(golden("model-entry.json") | {"capabilities": newer})


def test_capabilities_say_what_a_model_reads_beside_text() -> None:
    senses = ["chat", "vision", "audio"]
    entry = models.ModelEntry.parse(golden("model-entry.json") | {"capabilities": senses})
    assert entry.capabilities == tuple(senses)
    answer = golden("wire-models.json")
    answer["models"][0]["capabilities"] = senses
    assert status.ModelsAnswer.parse(answer).models[0].capabilities == tuple(senses)


@pytest.mark.parametrize("words", ["chat", ["Chat!"], [["chat"]], [1]])
def test_what_is_no_list_of_words_is_no_list_of_capabilities(words: Any) -> None:
    table = golden("routing-table.json")
    table["models"]["smollm2-135m"]["capabilities"] = words
    with pytest.raises(RecordError):
        routing.RoutingTable.parse(table)


def test_an_error_of_a_newer_release_is_a_fault_of_the_service() -> None:
    error = heads.ErrorHead.parse(golden("wire-error.json") | {"code": "model_asleep_at_noon"})
    assert error.code == "internal_error"
    assert error.message == golden("wire-error.json")["message"]


# Of a release that was installed: whoever changes it replaces every job of every site.
DIGEST = "11dffddfa7a6bd4993b1eb010e42de18a1835fd98f1833fa3051a93a24a1a4bf"


def test_a_new_field_replaces_no_job() -> None:
    """The digest of an entry that does not use a new field stays what it was."""
    entry = models.ModelEntry.parse(golden("model-entry.json"))
    assert entry.digest("script") == DIGEST

    @dataclasses.dataclass(frozen=True)
    class Newer(models.ModelEntry):
        invented: str = ""

    fields = {one.name: getattr(entry, one.name) for one in dataclasses.fields(entry)}
    assert Newer(**fields).digest("script") == DIGEST
    assert Newer(**fields, invented="x").digest("script") != DIGEST


@pytest.mark.parametrize(
    ("change", "rolls"),
    [
        ({"max": 2}, False),
        ({"min": 1}, False),
        ({"description": "other"}, False),
        ({"groups": ["staff"]}, False),
        ({"capabilities": ["chat"]}, False),
        ({"concurrency": 3}, False),
        ({"idle_stop": 7}, False),
        ({"start_timeout": 7}, False),
        ({"usage": "none"}, False),
        ({"weights": "/other"}, True),
        ({"context_length": 77}, True),
        ({"engine": "other"}, True),
        ({"engine_args": ["--other"]}, True),
        ({"environment": {"OTHER": "1"}}, True),
        ({"slurm": {"partition": "other", "time": 1, "cpus": 1, "memory_mb": 1}}, True),
    ],
)
def test_the_digest_changes_with_what_a_job_depends_on(change: dict[str, Any], rolls: bool) -> None:
    entry = models.ModelEntry.parse(golden("model-entry.json"))
    other = models.ModelEntry.parse(golden("model-entry.json") | change)
    assert (entry.digest("a") != other.digest("a")) is rolls
    assert entry.digest("a") != entry.digest("b")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", "../m"),
        ("drained", "yes"),
        ("restart", -1),
        ("resumed", 1e12),
        ("replace", ["other"]),
        ("replace", ["m-00000001"] * (orders.MAX_ORDERED + 1)),
        ("by", "a\nb"),
    ],
)
def test_orders_are_checked_field_by_field(field: str, value: Any) -> None:
    with pytest.raises(RecordError) as caught:
        orders.ModelOrders.parse(golden("model-orders.json") | {field: value})
    assert caught.value.field.startswith(field)


DOUBTFUL = [b'{"a": 1, "a": 2}', b'{"a": NaN}', b"[" * 100_000, b"{", b"\xff", b"\x00", b'{"a": "\x00"}']
OTHER_ENCODINGS = ["{}".encode(name) for name in ("utf-16", "utf-16-be", "utf-32-le", "utf-8-sig")]


@pytest.mark.parametrize("raw", [*DOUBTFUL, *OTHER_ENCODINGS])
def test_doubtful_json_is_refused(raw: bytes) -> None:
    with pytest.raises(RecordError):
        encoding.decode_json(raw)


def test_a_file_is_written_whole_with_its_mode(tmp_path: Path) -> None:
    target = tmp_path / "x.json"
    target.write_text("old")
    files.write_json(target, {"a": 1}, mode=0o640)
    assert json.loads(target.read_text()) == {"a": 1}
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.json"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "x.json"
    target.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        files.write_text(target, "\ud800")
    assert target.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.json"]


def test_a_file_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "x.json"
    target.write_text("[" + "1," * 100 + "1]")
    with pytest.raises(RecordError):
        files.read_json(target, limit=50)


def test_what_is_no_file_is_refused_and_holds_nobody_up(tmp_path: Path) -> None:
    """Another account may write in the folder, and opening a pipe without a writer waits forever."""
    pipe = tmp_path / "x.json"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path):
        with pytest.raises((RecordError, OSError)):
            files.read_json(path)
