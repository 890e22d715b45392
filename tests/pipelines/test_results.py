import base64
import json
import os
import random
from datetime import UTC, datetime, timedelta

import pytest
from regression_builders import CASE_ID, CLUSTER, HOSTILE, approve, candidate_row, insert, member_row

from pipelines.regression.result_file import ResultFileError, parse_results
from pipelines.regression.results import describe_folder, import_results

OTHER = "fedcba9876543210"
SECRET = "sk-ant-api03-" + "a1B2" * 24


def result(**overrides):
    return {"case_id": CASE_ID, "part": "contract", "repetition": 1, "outcome": "pass", "duration_ms": 5, **overrides}


def content(*results, **overrides):
    return {
        "format": "agentmill.regression_results",
        "format_version": 1,
        "run_id": "run-1",
        "started_at": "2026-03-10T10:00:00+00:00",
        "version": "2.0",
        "environment": "ci",
        "results": list(results) or [result()],
        **overrides,
    }


def junit(*cases, attributes='timestamp="2026-03-10T10:00:00+02:00"', before=""):
    suite = f"<testsuite name='s' {attributes}>{''.join(cases)}</testsuite>"
    return f"<?xml version='1.0'?>{before}<testsuites>{suite}</testsuites>"


@pytest.fixture
def imported(warehouse, tmp_path):
    """What becomes of files, given as content, in a warehouse with one approved case."""
    approve(warehouse)

    def run(*contents, **options):
        paths = []
        for number, one in enumerate(contents):
            path = tmp_path / f"{number}.json"
            path.write_bytes(
                one if isinstance(one, bytes) else (one if isinstance(one, str) else json.dumps(one)).encode()
            )
            paths.append(path)
        return import_results(warehouse, paths, **options)

    return run


def rows(warehouse):
    return warehouse.read("select * from agentmill.regression_results order by case_id, part, repetition").to_dicts()


def files(warehouse):
    return warehouse.read("select * from agentmill.regression_result_files order by file_name").to_dicts()


def test_results_come_in_with_their_run(warehouse, imported):
    told = {"message": "it broke", "outcome": "fail", "is_same_failure": True, "signature_id": CLUSTER}
    (file,) = imported(content(result(**told), result(part="control:1", repetition=2)))
    assert (file.is_new, file.result_count, file.new_count, file.problem) == (True, 2, 2, None)
    contract, control = rows(warehouse)
    assert {name: contract[name] for name in told} == told
    assert (contract["agent_version"], contract["environment"], contract["run_id"]) == ("2.0", "ci", "run-1")
    assert contract["executed_at"] == datetime(2026, 3, 10, 10, tzinfo=UTC)
    assert (control["part"], control["repetition"], control["duration_ms"], control["message"]) == (
        "control:1",
        2,
        5,
        None,
    )
    (held,) = files(warehouse)
    assert (held["file_name"], held["format"], held["result_count"]) == ("0.json", "agentmill.regression_results", 2)
    assert contract["file_sha256"] == held["file_sha256"] == file.file_sha256


def test_what_was_imported_is_imported_once(warehouse, imported):
    imported(content(result(outcome="fail")))
    (again,) = imported(content(result(outcome="fail")))
    assert (again.is_new, again.result_count, again.new_count) == (False, 1, 0)
    (other,) = imported(content(result(outcome="pass"), result(repetition=2)))
    assert (other.is_new, other.result_count, other.new_count) == (True, 2, 1)
    assert (other.problem, other.notes) == (None, "1 of its results were there before, and those stay")
    assert [row["outcome"] for row in rows(warehouse)] == ["fail", "pass"]
    assert len(files(warehouse)) == 2


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("", "it is no file of results"),
        ("{", "Invalid JSON"),
        (b"\xff\x00{", "it is no file of results"),
        ("[" * 100_000, "it is no file of results"),
        ([], "it is no file of results"),
        (content(format_version=2), "format_version"),
        (content(run_id=""), "run_id"),
        (content(started_at="yesterday"), "started_at"),
        (content(results=None), "results"),
        ("<a>", "it is no XML: no element found"),
        ("<a/>", "none of its 0 tests names a regression case"),
        ("<?xml version='1.0' encoding='x-none'?><a/>", "it is XML in an encoding that cannot be read"),
        (junit("<testcase name='test_login'/>"), "none of its 1 tests names a regression case"),
        (junit(before='<!DOCTYPE a [<!ENTITY b "c">]>'), "it declares a DTD"),
        (junit(before='<!DOCTYPE a SYSTEM "file:///etc/passwd">').encode("utf-16"), "it declares a DTD"),
    ],
)
def test_a_broken_file_is_kept_with_its_problem(warehouse, imported, given, problem):
    (file,) = imported(given)
    assert (file.is_new, file.result_count) == (True, 0)
    assert problem in file.problem
    assert [(one["result_count"], one["problem"]) for one in files(warehouse)] == [(0, file.problem)]


def test_a_result_that_cannot_be_read_is_counted_and_the_others_come_in(warehouse, imported):
    bad = [result(outcome="weird"), result(outcome="odd"), result(case_id="../../etc/passwd"), result(repetition=0), 7]
    (file,) = imported(content(*bad, result(duration_ms=None)))
    assert (file.result_count, len(rows(warehouse))) == (1, 1)
    assert "2 results cannot be read: outcome" in file.problem
    assert "1 result cannot be read: case_id: String should match pattern" in file.problem
    assert "1 result cannot be read: repetition" in file.problem
    assert "passwd" not in file.problem


def test_a_result_of_an_unknown_case_is_kept_and_told(warehouse, imported):
    (file,) = imported(content(result(), result(case_id="rc_gone"), result(case_id="rc_gone", repetition=2)))
    assert (file.new_count, len(rows(warehouse))) == (3, 3)
    assert file.problem == "2 of its results are of unknown cases: rc_gone"


def test_an_id_of_before_a_merger_is_known(warehouse, imported):
    insert(warehouse, "failure_cluster_signatures", member_row(signature_id=OTHER))
    assert imported(content(result(case_id=f"rc_{OTHER}")))[0].problem is None
    insert(warehouse, "regression_candidates", candidate_row(candidate_id="rc_alone", cluster_id="alone", state="held"))
    assert imported(content(result(case_id="rc_alone")))[0].problem is None


def test_a_time_that_is_not_over_is_told_and_that_of_the_import_stands(warehouse, imported):
    before = datetime.now(UTC)
    soon = (before + timedelta(minutes=2)).isoformat()
    near, far = imported(content(started_at=soon), content(started_at="2999-01-01T00:00:00Z", run_id="run-2"))
    assert near.problem is None
    assert far.problem == "its time 2999-01-01 00:00 UTC is not over: the time of the import stands"
    times = {row["run_id"]: row["executed_at"] for row in rows(warehouse)}
    assert times["run-1"].isoformat() == soon
    assert before <= times["run-2"] <= datetime.now(UTC)


def test_a_file_that_is_not_there_is_told(warehouse, tmp_path):
    (file,) = import_results(warehouse, [tmp_path / "none.json"])
    assert (file.file_sha256, file.problem) == (None, "it cannot be read (No such file or directory)")
    assert files(warehouse) == []


def test_texts_are_sanitized_and_stay_text(warehouse, imported, tmp_path):
    message = f"{HOSTILE} \0 {SECRET} '; drop table agentmill.regression_results; --"
    told = content(result(message=message, outcome="fail"), version=f"2.0 {HOSTILE[:20]}", environment=SECRET[:40])
    path = tmp_path / f"{SECRET}.json"
    path.write_text(json.dumps(told))
    import_results(warehouse, [path])
    (row,) = rows(warehouse)
    assert '"""\nimport os\n{{ 7*7 }}{% raw %}' in row["message"]
    assert "drop table" in row["message"]
    kept = json.dumps([rows(warehouse), files(warehouse)], default=str)
    assert "a1B2a1B2a1B2a1B2" not in kept
    assert "\0" not in row["message"]


def test_long_messages_are_cut(warehouse, imported):
    imported(content(result(message="long " * 5_000)))
    assert len(rows(warehouse)[0]["message"]) == 2_000


def test_a_secret_where_a_text_is_cut_leaves_no_half(warehouse, imported, tmp_path):
    image = base64.b64encode(random.Random(1).randbytes(40_000)).decode()
    message = f"{image[:49_980]} {SECRET}"
    name = f"{'-' * 180} {SECRET}"
    path = tmp_path / f"{SECRET} {'-' * 95}.json"
    path.write_text(json.dumps(content(result(message=message))))
    import_results(warehouse, [path])
    imported(junit(ours(run_id=name, version=name, environment=name)))
    assert "a1B2" not in json.dumps([rows(warehouse), files(warehouse)], default=str)


def ours(part="contract", outcome="fail", **overrides):
    told = {
        "case_id": CASE_ID,
        "part": part,
        "repetition": "2",
        "outcome": outcome,
        "version": "2.0",
        "environment": "ci",
        "run_id": "run-1",
        "is_same_failure": "True",
        "signature_id": CLUSTER,
        **overrides,
    }
    properties = "".join(f"<property name='{name}' value='{value}'/>" for name, value in told.items())
    told = f"<properties>{properties}</properties><failure message='it broke'>trace</failure>"
    return f"<testcase name='x' time='1.25'>{told}</testcase>"


def test_our_xml_tells_what_our_json_does(warehouse, imported):
    (file,) = imported(junit(ours(), ours(part="control:1", outcome="error")))
    assert (file.format, file.new_count, file.problem) == ("junit", 2, None)
    contract, control = rows(warehouse)
    assert (contract["outcome"], contract["repetition"], contract["duration_ms"]) == ("fail", 2, 1_250)
    assert (contract["is_same_failure"], contract["signature_id"], contract["message"]) == (True, CLUSTER, "it broke")
    assert (contract["agent_version"], contract["environment"]) == ("2.0", "ci")
    assert contract["executed_at"] == datetime(2026, 3, 10, 8, tzinfo=UTC)
    assert control["outcome"] == "error"
    (same,) = imported(content(result(repetition=2, outcome="fail")))
    assert same.new_count == 0


def test_the_xml_of_another_runner_names_cases_in_its_tests(warehouse, imported):
    cases = [
        f"<testcase name='guards {CASE_ID}' time='0.1'/>",
        f"<testcase classname='t.{CASE_ID}' name='x'><failure>it broke</failure></testcase>",
        f"<testcase name='{CASE_ID}.again'><error message='no network'/></testcase>",
        f"<testcase name='{CASE_ID}'><skipped/></testcase>",
        "<testcase name='test_login'/>",
    ]
    (file,) = imported(junit(*cases), version="3.0", environment="stage")
    assert (file.new_count, file.problem) == (4, None)
    found = rows(warehouse)
    assert [row["outcome"] for row in found] == ["pass", "fail", "error", "skipped"]
    assert [row["repetition"] for row in found] == [1, 2, 3, 4]
    assert [row["message"] for row in found] == [None, "it broke", "no network", None]
    assert {(row["agent_version"], row["environment"], row["part"]) for row in found} == {("3.0", "stage", "contract")}


def test_a_run_without_a_time_has_that_of_its_import(imported):
    (file,) = imported(junit(f"<testcase name='{CASE_ID}'/>", attributes=""))
    told = "it does not say when the tests ran: the time of the import stands for it"
    assert (file.problem, file.notes) == (None, told)


BARE = junit(f"<testcase name='guards {CASE_ID}'/>")


def test_a_file_that_does_not_tell_its_version_can_be_given_one_later(warehouse, imported):
    first, named, placed = (imported(BARE, **given)[0] for given in ({}, {"version": "9.1"}, {"environment": "ci"}))
    assert [one.is_new for one in (first, named, placed)] == [True, True, True]
    assert [one.new_count for one in (first, named, placed)] == [1, 1, 1]
    told = {(row["agent_version"], row["environment"]) for row in rows(warehouse)}
    assert told == {(None, None), ("9.1", None), (None, "ci")}
    assert len({row["run_id"] for row in rows(warehouse)}) == 1
    assert {(one["agent_version"], one["environment"]) for one in files(warehouse)} == told


@pytest.mark.parametrize(
    "again", [{}, {"version": "9.1"}, {"environment": "ci"}, {"version": "9.1", "environment": "ci"}]
)
def test_what_was_imported_with_its_version_is_known_with_no_more(warehouse, imported, again):
    imported(BARE, version="9.1", environment="ci")
    (known,) = imported(BARE, **again)
    assert (known.is_new, known.result_count, len(rows(warehouse))) == (False, 1, 1)


def test_what_a_file_tells_is_not_given_anew(warehouse, imported):
    imported(content())
    (known,) = imported(content(), version="9.1", environment="prod")
    assert (known.is_new, len(rows(warehouse))) == (False, 1)
    (half,) = imported(content(environment=None, run_id="run-2"), version="9.1", environment="prod")
    assert half.is_new
    assert [(one["agent_version"], one["environment"]) for one in files(warehouse)] == [(None, None), (None, "prod")]
    assert {(row["agent_version"], row["environment"]) for row in rows(warehouse)} == {("2.0", "ci"), ("2.0", "prod")}


def test_names_of_a_run_are_sanitized_and_not_too_long(warehouse, imported):
    mail = "ann@example.org"
    imported(content(run_id=mail, version=f"2.0 {mail}", environment=f"ci {mail}"))
    imported(content(run_id=mail, started_at="2026-03-11T10:00:00Z", version=None), version="9" * 5_000)
    first, second = sorted(rows(warehouse), key=lambda row: row["executed_at"])
    assert (first["agent_version"], first["environment"]) == ("2.0 <email>", "ci <email>")
    assert first["run_id"] == f"<email> {first['file_sha256'][:16]}"
    assert first["run_id"] != second["run_id"]
    assert second["agent_version"] == "9" * 200
    assert mail not in json.dumps([rows(warehouse), files(warehouse)], default=str)


def test_what_our_xml_announces_and_does_not_tell_was_skipped(warehouse, imported):
    extent = {"agentmill_repetitions": "2", "agentmill_controls": "1"}
    (file,) = imported(junit(ours(outcome="pass", **extent)))
    assert (file.result_count, file.problem) == (4, None)
    assert [(row["part"], row["repetition"], row["outcome"]) for row in rows(warehouse)] == [
        ("contract", 1, "skipped"),
        ("contract", 2, "pass"),
        ("control:1", 1, "skipped"),
        ("control:1", 2, "skipped"),
    ]
    assert rows(warehouse)[0]["message"] == "It was not run."
    assert {(row["run_id"], row["agent_version"], row["environment"]) for row in rows(warehouse)} == {
        ("run-1", "2.0", "ci")
    }


@pytest.mark.parametrize("wrong", [{"agentmill_repetitions": "1000000000"}, {"agentmill_controls": "-1"}])
def test_a_file_that_announces_what_no_case_has_is_a_problem(warehouse, imported, wrong):
    (file,) = imported(junit(ours(**{"agentmill_repetitions": "2", "agentmill_controls": "1", **wrong})))
    assert f"how much of a case was to be run cannot be read: {next(iter(wrong))}" in file.problem
    assert len(rows(warehouse)) == 1


def test_a_document_of_entities_is_refused_before_it_is_read():
    laughs = "".join(f'<!ENTITY l{n + 1} "{f"&l{n};" * 10}">' for n in range(9))
    bomb = f'<!DOCTYPE a [<!ENTITY l0 "ha">{laughs}]>'
    with pytest.raises(ResultFileError, match="it declares a DTD"):
        parse_results(junit("<testcase name='&l9;'/>", before=bomb).encode())


def test_a_folder_is_imported_by_name_and_other_files_are_left(warehouse, tmp_path):
    approve(warehouse)
    folder = tmp_path / "results"
    folder.mkdir()
    for name in ("b.json", "a.xml", "notes.txt", ".c.json.1"):
        (folder / name).write_text(json.dumps(content(run_id=name)))
    (folder / "deeper.json").mkdir()
    assert [one.file_name for one in import_results(warehouse, [folder])] == ["a.xml", "b.json"]


def test_a_folder_looks_different_when_there_is_something_to_import(tmp_path):
    folder = tmp_path / "results"
    assert describe_folder(folder) is None
    folder.mkdir()
    (folder / "notes.txt").write_text("x")
    assert describe_folder(folder) is None
    (folder / "a.json").write_text("{}")
    first = describe_folder(folder)
    assert describe_folder(folder) == first
    os.utime(folder / "a.json", (1, 1))
    second = describe_folder(folder)
    (folder / "b.xml").write_text("<a/>")
    assert len({first, second, describe_folder(folder), None}) == 4
