import json

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.anonymize.errors import describe_error
from pipelines.anonymize.keys import KeyProblemError, PseudonymKey, parse_key, read_key_file, write_key_file
from pipelines.anonymize.network import address_prefix, client_family
from pipelines.anonymize.payload import describe
from pipelines.anonymize.pseudonyms import digest, pseudonymize
from pipelines.anonymize.skeleton import KNOWN_KEYS

OTHER = PseudonymKey("k2", b"y" * 32)


def test_a_pseudonym_is_stable_under_one_key_and_another_under_another(key):
    users = pl.Series(["ann", "bob", "ann", "", None])
    told = pseudonymize(users, "user", key)
    assert told[0] == told[2] != told[1]
    assert told.to_list()[3:] == [None, None]
    assert told[0] != pseudonymize(users, "session", key)[0]
    assert told[0].startswith("k1_")
    assert pseudonymize(users, "user", OTHER)[0].startswith("k2_")


def test_a_pseudonym_is_plain_hmac_so_that_anyone_with_the_key_can_recompute_it(key):
    import hashlib
    import hmac

    expected = hmac.new(key.secret.hex().encode(), b"user\x1fann", hashlib.sha256).hexdigest()[:32]
    assert pseudonymize(pl.Series(["ann"]), "user", key)[0] == f"k1_{expected}"


def test_a_digest_tells_equal_from_different(key):
    told = digest(pl.Series(["a", "a", "b", None]), "record", key)
    assert told[0] == told[1] != told[2]
    assert told[3] is None


def test_the_key_is_not_shown(key):
    assert "secret" not in repr(key)


@pytest.mark.parametrize("text", ["", "k1", "k1:", "k1:zz", "k1:" + "ab" * 31, "K 1:" + "ab" * 32])
def test_an_unfit_key_is_refused_without_being_quoted(text):
    with pytest.raises(KeyProblemError) as caught:
        parse_key(text, "the test")
    assert "ab" * 5 not in str(caught.value)


def test_a_key_file_is_private_and_never_overwritten(tmp_path):
    path = tmp_path / "agentmill.key"
    write_key_file(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_key_file(path).id == "k1"
    with pytest.raises(FileExistsError):
        write_key_file(path)
    path.chmod(0o644)
    with pytest.raises(KeyProblemError, match="chmod 600"):
        read_key_file(path)
    with pytest.raises(KeyProblemError, match="agentmill init"):
        read_key_file(tmp_path / "absent")


@pytest.mark.parametrize(
    ("address", "prefix"),
    [
        ("10.1.2.3", "10.1.2.0/24"),
        ("10.1.2.3:8080", "10.1.2.0/24"),
        ("10.1.2.3, 10.9.9.9", "10.1.2.0/24"),
        ("256.1.2.3", None),
        ("2001:db8:1:2::3", "2001:db8:1::/48"),
        ("[2001:db8:1:2::3]:443", "2001:db8:1::/48"),
        ("fe80::1%eth0", "fe80::/48"),
        ("::ffff:10.1.2.3", "10.1.2.0/24"),
        ("nowhere", None),
        (None, None),
    ],
)
def test_an_address_becomes_its_network(address, prefix):
    assert address_prefix(pl.Series([address, "10.0.0.1"], dtype=pl.String))[0] == prefix


def test_a_client_becomes_its_family():
    agents = ["Mozilla/5.0 (X11) Chrome/126.0.0.0 Safari/537.36", "curl/8.1.2", "my own", None]
    assert client_family(pl.Series(agents)).to_list() == ["Chrome 126", "curl 8", "other", None]


def test_payloads_keep_size_type_and_structure_only():
    payloads = [
        '{"messages":[{"role":"user","content":"hi"}],"ann@example.org":1}',
        "plain é",
        None,
        "[1, 2]",
        "{broken",
    ]
    told = describe(pl.Series(payloads, dtype=pl.String)).drop("shape_id").rows()
    assert told == [
        (65, "json", "{<key>:int,messages:[{content:str(2-9),role:str(2-9)}]x1}", 3, 4),
        (8, "text", "text(2-9)", None, None),
        (None, None, None, None, None),
        (6, "json", "[int]x2-9", 1, 0),
        (7, "text", "text(2-9)", None, None),
    ]


@pytest.mark.parametrize(
    ("payload", "shape"),
    [
        ("{}", "{}"),
        ("[]", "[]x0"),
        ('["", 12345678901234567890, -1.5e3, true, null, "\\u00e9", "\\"\\""]', "[bool|int|null|num|str(0-9)]x2-9"),
        ('[{"role": "a"}, {"text": "' + "b" * 100 + '"}, 7]', "[int|{role:str(1),text:str(100-999)}]x2-9"),
        ('{"items": [[1], [], [' + "2," * 10 + "3]]}", "{items:[[int]x0-99]x2-9}"),
        ('{"ann": 1, "bob": "x", "na\\u006de": {"name" : 2}}', "{<key>:int|str(1)|{name:int}}"),
        ('{"text": "' + "\\ud83d\\ude00" * 5 + '"}', "{text:str(2-9)}"),
        ('{"text": "' + "c" * 1_000_000 + '"}', "{text:str(1000000+)}"),
        ("[" * 9 + "]" * 9, "[" * 8 + "..." + "]x1" * 8),
        ("{" + ",".join(f'"{key}":1' for key in sorted(KNOWN_KEYS)[:42]) + "}", ",+2}"),
        ("[" * 5_000 + "]" * 5_000, "..."),
    ],
    ids=lambda text: text[:20],
)
def test_a_skeleton_has_sorted_keys_bucketed_lengths_and_bounds(payload, shape):
    told = describe(pl.Series([payload]))["shape"][0]
    assert told == shape or (shape.startswith(",") and told.endswith(shape))


def test_keys_that_the_owner_names_are_structure_and_tell_payloads_apart():
    payloads = pl.Series(['{"invoice": {"ann": 1}}', '{"vendor": {"bob": 1}}'])
    assert describe(payloads)["shape"].to_list() == ["{<key>:{<key>:int}}"] * 2
    told = describe(payloads, frozenset({"invoice", "vendor"}))
    assert told["shape"].to_list() == ["{invoice:{<key>:int}}", "{vendor:{<key>:int}}"]
    assert told["shape_id"].n_unique() == 2


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["name", "ann", "text", "b\\"]), inner),
    max_leaves=12,
)


@settings(max_examples=60)
@given(st.lists(values, min_size=1, max_size=8), st.booleans(), st.frozensets(st.sampled_from(["ann", "bob"])))
def test_a_structure_does_not_depend_on_the_payloads_beside_it(batch, ascii_only, own_keys):
    payloads = [json.dumps([value], ensure_ascii=ascii_only) for value in batch]
    told = describe(pl.Series(payloads), own_keys).rows()
    assert told == [describe(pl.Series([payload]), own_keys).row(0) for payload in payloads]
    assert [row[4] for row in told] == [_keys(value) for value in batch]


def _keys(value):
    if isinstance(value, dict):
        return len(value) + sum(map(_keys, value.values()))
    return sum(map(_keys, value)) if isinstance(value, list) else 0


def test_payloads_that_differ_in_structure_only_slightly_are_told_apart():
    payloads = [
        '{"text":1}',
        '{"text":1.0}',
        '{"text":"1"}',
        '{"text":"11"}',
        '{"name":1}',
        '{"text":["a"],"name":["b","c"]}',
        '{"text":["b","c"],"name":["a"]}',
    ]
    told = describe(pl.Series([*payloads, '{"text":22}']))
    assert told["shape_id"].n_unique() == len(payloads)
    assert told["shape_id"][0] == told["shape_id"][-1]


@pytest.mark.parametrize(
    ("payload", "shape"),
    [
        ("https://example.org/a?b=c", "url(10-99)"),
        ("-12.5", "number(2-9)"),
        ("a\nTraceback (most recent call last):\n  File", "python-traceback(10-99)x2-9 lines"),
        ("diff --git a/x b/x\n--- a/x", "diff(10-99)x2-9 lines"),
        ("<!DOCTYPE html><p>hi", "html(10-99)"),
        ('<?xml version="1.0"?><a/>', "xml(10-99)"),
        ("id,name\n1,ann\n", "csv(10-99)x2-9 lines"),
        ("iVBORw0KGgo" * 10, "base64(100-999)"),
        ("\x00\x01", "binary(2-9)"),
        ("Run:\n```bash\nls\n```", "markdown(10-99)x2-9 lines"),
        ("well, this is prose\nwith, commas\n" * 9, "text(100-999)x10-99 lines"),
        ("[1] is not JSON", "text(10-99)"),
        ("\x1b[31mred\x1b[0m and one \ufffd", "text(10-99)"),
        ("", "text(0)"),
    ],
)
def test_a_payload_that_is_no_json_has_a_kind_a_length_and_lines(payload, shape):
    told = describe(pl.Series([payload])).row(0, named=True)
    assert (told["shape"], told["type"]) == (shape, shape.partition("(")[0])


@pytest.mark.parametrize(
    "provoke",
    [lambda: pl.Series(["s3cr3t"]).cast(pl.Int64), lambda: duckdb.sql("select 's3cr3t'::int").fetchall()],
)
def test_the_message_of_a_library_that_quotes_data_is_withheld(provoke):
    with pytest.raises((pl.exceptions.PolarsError, duckdb.Error)) as caught:
        provoke()
    assert "s3cr3t" in str(caught.value)
    assert "s3cr3t" not in describe_error(caught.value)


def test_any_other_message_is_sanitized_and_says_where():
    with pytest.raises(ValueError, match="ann") as caught:
        int("ann@example.org")
    told = describe_error(caught.value)
    assert told.splitlines()[0] == "ValueError: invalid literal for int() with base 10: '<email>'"
    assert "test_anonymize.py" in told
