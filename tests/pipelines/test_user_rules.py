import json
import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from conftest import DAY, KEY_TEXT, NOW, REPOSITORY
from hypothesis import example, given
from hypothesis import strategies as st

from pipelines.anonymize import user_rules
from pipelines.anonymize.text import DEFAULT, Sanitizer
from pipelines.anonymize.user_rules import ExtraRule, UnfitRuleError, check_pattern
from pipelines.clean import clean
from pipelines.extract import extract
from pipelines.settings import ConfigError, Settings, parse_settings

CUSTOMER = {
    "name": "customer",
    "pattern": r"(customer )[A-Z]{2}-[0-9]{6}",
    "placeholder": "<customer>",
    "example": ["for customer AB-123456 failed", "for customer <customer> failed"],
    "frame": "${1}{}",
}
GITLEAKS = r"""
title = "shaped like real ones"

[allowlist]
description = "of all rules"
regexes = ['''(?i)^example$''', '''\$\{\w+\}''']
paths = ['''\.lock$''']

[[rules]]
id = "acme-key"
description = "a prefix and a body"
regex = '''\b(acme_[\w-]{24})(?:['"\s;]|$)'''
entropy = 3
keywords = ["acme_"]

[[rules]]
id = "Generic Key"
regex = '''(?i)[\w.-]{0,50}?(?:badge|ticket)(?:[ \t\w.-]{0,20})[\s'"]{0,3}(?:=|:{1,3}=|=>|:)[\x60'"\s=]{0,5}([\w.=-]{10,150})(?:[\x60'"\s;]|\\[nr]|$)'''
secretGroup = 1
keywords = ["badge", "ticket"]
[[rules.allowlists]]
regexTarget = "match"
regexes = ['''ticket_url''']
[[rules.allowlists]]
stopwords = ["placeholder"]
[[rules.allowlists]]
condition = "AND"
regexes = ['''public''']
paths = ['''docs/''']

[[rules]]
id = "private-file"
path = '''\.p12$'''
"""  # noqa: E501 - as such files are


@pytest.fixture
def gitleaks(tmp_path):
    def read(text=GITLEAKS):
        (tmp_path / "rules.toml").write_text(text)
        return Settings(gitleaks_rules=tmp_path / "rules.toml").read_sanitizer()

    return read


def told(sanitizer, text):
    return sanitizer.sanitize_texts(pl.Series([text]))[0]


def extra(**changes):
    return Sanitizer((ExtraRule.model_validate({**CUSTOMER, **changes}).stage,))


def test_a_rule_of_the_user_applies_after_ours_and_is_counted():
    sanitizer = extra()
    texts, removed = sanitizer.sanitize(pl.DataFrame({"a": ["customer AB-123456 is ann@example.org", None]}))
    assert texts["a"].to_list() == ["customer <customer> is <email>", None]
    assert json.loads(sanitizer.count_by_kind(removed)[0]) == {"customer": 1, "email": 1}
    assert told(DEFAULT, "customer AB-123456") == "customer AB-123456"


def test_a_rule_of_the_user_sees_escapes_as_they_are():
    given = {"name": "login", "placeholder": "<login>", "example": (r"by CORP\bob now", "by <login> now")}
    login = ExtraRule(pattern=r"CORP\\+[a-z]+", **given)
    texts = pl.Series([r"by CORP\nancy now\n/home/annb/x"])
    assert Sanitizer((login.stage,)).sanitize_texts(texts).to_list() == [r"by <login> now\n/home/<user>/x"]


def test_a_rule_of_the_user_comes_before_the_search_for_tokens():
    token = "Zq8Lr2Xv9Kt4Wn7Bc1Yh6Mj3Pd5Gf0SaE"
    rule = {"pattern": "vault/[A-Za-z0-9]{33}", "frame": "vault/{}", "example": [f"vault/{token}", "vault/<customer>"]}
    assert told(extra(**rule), f"read vault/{token}") == "read vault/<customer>"


greedy = Sanitizer(
    tuple(
        ExtraRule.model_validate(rule).stage
        for rule in (
            {**CUSTOMER, "pattern": r"(order=)\S+", "example": ["order=a", "order=<customer>"]},
            {"name": "glue", "pattern": "x+y", "placeholder": "<glue>", "example": ["axxy", "a<glue>"]},
        )
    )
)
pieces = st.lists(
    st.sampled_from(
        ["order=", "xxy", "x", "y", " ", "ann@example.org", "password=", "10.1.2.3", "<customer>", "sk-", "é"]
    ),
    max_size=12,
)


@given(pieces)
@example(["order=", "ann@example.org"])
@example(["xxy", "AK" + "IA" + "A2B3" * 4])
@example(["password=", "xxy", "order=", "xxy"])
def test_rules_that_swallow_placeholders_leave_the_sanitizer_idempotent(parts):
    once = told(greedy, "".join(parts))
    assert told(greedy, once) == once


def test_rules_that_never_come_to_rest_let_nothing_pass():
    growing = ExtraRule.model_construct(**{**CUSTOMER, "pattern": "(a)", "frame": "${1}${1}{}"})
    assert told(Sanitizer((growing.stage,)), "a secret") == "<unsanitized> (8 characters)"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"pattern": "(unclosed"}, "`customer` is refused: its pattern is no Rust regular expression (unclosed group)"),
        ({"pattern": "(?<=a)b"}, "look-around"),
        ({"pattern": "x*"}, "finds the empty text"),
        ({"example": ["customer 7", "customer <customer>"]}, "its example becomes 'customer 7'"),
        ({"frame": "${1}"}, "it has to hold `{}`"),
        ({"placeholder": "gone"}, "should match pattern"),
        ({"patern": "x"}, "did you mean `pattern`? There are: example, frame, name, pattern, placeholder."),
    ],
    ids=str,
)
def test_an_unfit_rule_is_refused_with_line_and_name(changes, says, tmp_path):
    text = f"start_date: 2026-01-01\nextra_rules:\n  - {json.dumps({**CUSTOMER, **changes})}\n"
    with pytest.raises(ConfigError) as caught:
        parse_settings(text, tmp_path / "agentmill.yaml")
    (problem,) = caught.value.problems
    assert says in str(problem)
    assert problem.line == 3
    assert problem.where.startswith("extra_rules.0")


def test_the_rule_in_the_documentation_is_fit(tmp_path):
    document = (REPOSITORY / "docs" / "sources.md").read_text()
    (text,) = re.findall(r"```yaml\n(extra_rules:.*?)```", document, re.DOTALL)
    assert parse_settings(text, tmp_path / "agentmill.yaml").extra_rules[0].name == "customer"


def test_a_slow_rule_is_refused(monkeypatch):
    check_pattern("[a-z]+@")
    monkeypatch.setattr(user_rules, "_seconds", lambda _, text: 2.5 if text.startswith("key=") else 0.0)
    with pytest.raises(UnfitRuleError, match=r"2\.5 s for 1 kB of 'key='"):
        check_pattern("[a-z]+@")


SECRET = "acme_" + "a1B2c3D4" * 3


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (f"use {SECRET} now", "use <secret:acme-key> now"),
        (f"é{SECRET}", "é<secret:acme-key>"),
        ("use acme_" + "a" * 24 + " now", "use acme_" + "a" * 24 + " now"),
        ("my.badge: 'abcdefghij.klm' is old", "my.badge: '<secret:generic-key>' is old"),
        ("badge=placeholder-1 ok", "badge=placeholder-1 ok"),
        ("badge=${HOME_OF_ALL} ok", "badge=${HOME_OF_ALL} ok"),
        ("ticket_url=abcdefghijkl ok", "ticket_url=abcdefghijkl ok"),
        ("badge=public-abcdefghijkl ok", "badge=<secret:generic-key> ok"),
        ("abcdefghijklmnop", "abcdefghijklmnop"),
    ],
)
def test_rules_of_gitleaks_apply_with_group_entropy_and_allowlists(gitleaks, before, after):
    sanitizer = gitleaks()
    assert told(sanitizer, before) == after
    assert told(sanitizer, after) == after


def test_a_rule_that_looks_at_files_only_is_left_out_and_that_is_said(gitleaks, caplog):
    gitleaks(GITLEAKS + "\n[extend]\nuseDefault = true\n")
    assert "private-file is left out" in caplog.text
    assert "`extend` is not followed" in caplog.text


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ((r"\b(acme_", r"\b((acme_"), "line 10: acme-key: its pattern is no Rust regular expression"),
        (
            ("secretGroup = 1", "secretGroup = 3"),
            "line 17: Generic Key: its secretGroup is 3, and its regex has 1 groups",
        ),
        (("ticket_url", "(ticket_url"), "line 17: Generic Key: an allowlist of it is no Rust regular expression"),
        (("entropy = 3", "entropy = x"), "file: Invalid value"),
        (("entropy = 3", 'entropy = "x"'), "rules.0.entropy: Input should be a valid number"),
    ],
    ids=str,
)
def test_a_gitleaks_file_that_cannot_be_used_is_a_mistake_of_the_configuration(gitleaks, change, says):
    assert change[0] in GITLEAKS
    with pytest.raises(ConfigError) as caught:
        gitleaks(GITLEAKS.replace(*change))
    assert says in str(caught.value)
    assert "rules.toml cannot be used" in str(caught.value)


def test_what_is_no_gitleaks_file_is_told(tmp_path):
    with pytest.raises(ConfigError, match="it cannot be read"):
        Settings(gitleaks_rules=tmp_path / "none.toml").read_sanitizer()
    (tmp_path / "odd.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="it is not UTF-8"):
        Settings(gitleaks_rules=tmp_path / "odd.toml").read_sanitizer()


def test_stored_rows_follow_the_rules_of_the_user(source, lake, key, prices, write_log, record):
    write_log(record(state="failed", error="no such customer AB-123456"), record(state="customer AB-123456"))
    extract(source(), [DAY], lake, NOW)
    receipt = clean(DAY, [source()], lake, key, prices, sanitizer=extra())
    assert lake.read(receipt.parts[0])["error_message"].to_list() == ["no such customer <customer>"]
    assert lake.read(receipt.parts[0])["redactions"].to_list() == ['{"customer": 1}']
    assert "AB-123456" not in lake.read(receipt.quarantine[0])["detail"][0]


@pytest.mark.parametrize("command", [["config", "check", "--json"], ["run"], ["source", "preview", "app"]], ids=str)
def test_the_command_line_refuses_a_bad_rule(tmp_path, source, write_log, record, command):
    write_log(record())
    (tmp_path / "rules.toml").write_text(GITLEAKS.replace(r"\b(acme_", r"\b((acme_"))
    config = {
        "state_dir": str(tmp_path / "state"),
        "gitleaks_rules": str(tmp_path / "rules.toml"),
        "pseudonym_key": KEY_TEXT,
        "sources": {"app": source().model_dump(mode="json", by_alias=True, exclude={"name"}, exclude_defaults=True)},
    }
    (tmp_path / "agentmill.yaml").write_text(json.dumps(config))
    agentmill = Path(sys.executable).with_name("agentmill")
    done = subprocess.run([agentmill, *command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "acme-key" in done.stdout + done.stderr
    assert not (tmp_path / "state").exists()
