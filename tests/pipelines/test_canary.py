import json

import polars as pl
import pytest
from conftest import DAY, NOW, REAL_DATA

from pipelines.anonymize.text import Sanitizer, sanitize_texts
from pipelines.clean import clean
from pipelines.extract import extract
from pipelines.validate import canary, validate
from pipelines.validate.canary import find_secrets

PLANTED = {
    "vendor key": ["sk-" + "proj-" + "a1B2c3D4" * 5, "gh" + "p_" + "a1B2c3" * 6, "AK" + "IA" + "A2B3C4D5E6F7G2H3"],
    "private key": ["-----BEGIN " + "RSA PRIVATE KEY-----\nMIIa"],
    "web token": ["ey" + "JhbGciOiJIUzI1NiJ9.ey" + "JzdWIiOiIxMjM0NTY3ODkwIn0.c2lnbmF0dXJl"],
    "password in a URL": ["redis://default:hunter2@cache:6379"],
    "e-mail address": ["ophelia.canary@example.org"],
    "card number": ["4111 1111 1111 1111", "5555555555554444", "378282246310005"],
    "social security number": ["123-45-6789"],
    "home folder": ["/home/ophelia/x.py", r"C:\Users\ophelia\x.py", "/Users/ophelia"],
}
HARMLESS = (
    "mail to <email>, card <card>, in /home/<user>/src and C:\\Users\\<user>\\x, from 10.1.2.x, postgres://<credentials>@db/x",
    "commit 3a2d08fb415071cc94dd6fcee24cfbdd1fb487dd of 2a74c742-95b1-433f-81dc-4e9a2006496b",
    "4111111111111112 tokens, 4000000000000000 ns, 4111.1111111111111111, k1_41111111111111114111111111111111",
    "icon@2x.png, run@main.js, pip install x@1.2.3, http://localhost:8080?q=a@b, git clone https://host:443/a@b",
    "the key must start with -----BEGIN, an id such as 123-45-67890 or 000-12-3456 is refused",
    "{messages:[{content:str,role:str}],<key>:int} at 2026-03-10T12:00:00.123Z, sk-learn, hf_hub, /home/<user>",
)


@pytest.mark.parametrize(("kind", "value"), [(kind, value) for kind, values in PLANTED.items() for value in values])
def test_what_must_not_be_stored_is_found_in_any_text(kind, value):
    texts = pl.Series(["fine", f"failed for {value}", value, f'{{"a":"{value}"}}', None])
    assert set(find_secrets(texts)) == {kind}
    assert len(find_secrets(texts)[kind]) == 3


@pytest.mark.parametrize("text", HARMLESS)
def test_placeholders_and_what_helps_debugging_are_no_secrets(text):
    assert find_secrets(pl.Series([text])) == {}


@pytest.mark.parametrize("value", [value for values in PLANTED.values() for value in values])
def test_nothing_is_found_in_what_the_sanitizer_leaves(value):
    assert find_secrets(sanitize_texts(pl.Series([f"failed for {value} twice"]))) == {}


def test_nothing_is_found_in_real_errors_once_they_are_sanitized():
    path = REAL_DATA / "real_errors.ndjson"
    if not path.exists():
        pytest.skip("the real errors are not here")
    texts = pl.Series([json.loads(line)["text"] for line in path.read_text().splitlines()])
    assert set(find_secrets(texts)) == {"e-mail address", "home folder"}
    assert find_secrets(sanitize_texts(texts)) == {}


@pytest.fixture
def verdict(source, lake, key, prices, write_log, record, monkeypatch):
    """The verdict on a day of one error, as a sanitizer would leave it that lets everything pass."""

    def judge(**overrides):
        write_log(record(state="failed", **overrides), record())
        configured = source(attributes=["note"])
        extract(configured, [DAY], lake, NOW)
        with monkeypatch.context() as patched:
            patched.setattr(Sanitizer, "_apply_stages", lambda _, texts: texts)
            clean(DAY, [configured], lake, key, prices)
        told = validate(DAY, [configured], lake, prices)
        return told, {one.check: one for one in told.verdicts}["no_secrets_stored"]

    return judge


@pytest.mark.parametrize(
    ("overrides", "rule"),
    [
        ({"error": "to ophelia@example.org"}, "executions.error_message: e-mail address"),
        ({"note": "card 4111 1111 1111 1111"}, "executions.attributes: card number"),
        ({"agent": "123-45-6789"}, "executions.agent_id: social security number"),
    ],
)
def test_a_day_that_would_store_a_secret_is_blocked_without_quoting_it(verdict, overrides, rule):
    day, told = verdict(id="run-x", **overrides)
    assert not day.is_publishable
    assert told.blocks
    assert told.findings[0].rule == rule
    assert told.findings[0].examples == ["run-x"]
    assert next(iter(overrides.values())) not in told.model_dump_json()


def test_an_id_that_is_the_secret_is_not_shown(verdict):
    _, told = verdict(id="sk-" + "a1B2c3D4" * 5)
    assert told.blocks
    assert "a1B2" not in told.model_dump_json()


def test_a_day_without_secrets_passes(verdict):
    _, told = verdict(error="timed out")
    assert told.passed
    assert told.figures["texts"] > 5


def test_a_large_day_is_looked_at_in_parts_spread_over_it(monkeypatch):
    monkeypatch.setattr(canary, "_MOST_TEXTS", 4)
    texts = [pl.Series([f"a{n}" for n in range(6)]), pl.Series(["a0", "b0", "b1"])]
    assert canary._sample(texts).to_list() == ["a0", "a2", "a4", "b0"]
