import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipelines.failures.cluster import cluster
from pipelines.failures.overrides import NO_OVERRIDES, Overrides, OverridesError, read_overrides

NAMES = ("orders", "users", "items", "carts")
IDS = {name: f"{number:016x}" for number, name in enumerate(NAMES, 1)}
OTHER = "00000000000000ff"
MISSING = "00000000000000aa"


def signatures(names=NAMES, day=0):
    rows = [(IDS[name], f"could not open the table {name} because it is locked", day) for name in names]
    rows.append((OTHER, "the disk is full", day))
    return pl.DataFrame(rows, schema=["signature_id", "match_key", "day"], orient="row")


def decided(reason="seen in production", **lists):
    return Overrides.model_validate(
        {name: [{"reason": reason, **entry} for entry in entries] for name, entries in lists.items()}
    )


def partition(clusters):
    groups = clusters.members.group_by("cluster_id").agg(pl.col("signature_id").sort())
    return {frozenset(ids) for ids in groups["signature_id"].to_list()}


def ids(*names):
    return frozenset(IDS.get(name, name) for name in names)


def test_without_overrides_words_decide():
    assert partition(cluster(signatures())) == {ids(*NAMES), ids(OTHER)}


def test_a_signature_apart_is_a_cluster_of_its_own_and_no_value_for_the_others():
    apart = decided(apart=[{"signature": IDS["carts"]}])
    assert partition(cluster(signatures(), apart)) == {ids("orders", "users", "items"), ids("carts"), ids(OTHER)}
    fewer = signatures(("orders", "users", "carts"))
    assert partition(cluster(fewer, apart)) == {ids("orders"), ids("users"), ids("carts"), ids(OTHER)}


def test_signatures_together_are_one_cluster_with_all_that_is_like_them():
    found = cluster(signatures(), decided(together=[{"signatures": [OTHER, IDS["users"]]}]))
    assert partition(found) == {ids(*NAMES, OTHER)}
    assert found.forced(IDS["orders"]).rows() == [("together", [IDS["users"], OTHER], "seen in production")]
    assert found.merges(IDS["orders"])["values"].to_list() == [sorted(NAMES)]


def test_a_signature_apart_can_be_together_with_another():
    both = decided(apart=[{"signature": IDS["carts"]}], together=[{"signatures": [IDS["carts"], OTHER]}])
    assert partition(cluster(signatures(), both)) == {ids("orders", "users", "items"), ids("carts", OTHER)}


def test_ids_that_are_not_in_the_data_connect_nothing():
    rows = signatures(("orders", "users"))
    through = decided(
        together=[{"signatures": [IDS["orders"], MISSING]}, {"signatures": [MISSING, IDS["users"]]}],
        apart=[{"signature": "00000000000000bb"}],
        rename=[{"signature": MISSING, "name": "gone"}],
    )
    found = cluster(rows, through, {MISSING: "00000000000000cc"})
    assert found.members.equals(cluster(rows).members)
    assert found.forced(OTHER).height == found.decided.height == 0


def test_an_alias_joins_the_failure_of_before_with_that_of_now():
    old = pl.DataFrame([(MISSING, "disk full", -1)], schema=signatures().schema, orient="row")
    found = cluster(pl.concat([signatures(), old]), aliases={MISSING: OTHER})
    assert partition(found) == {ids(*NAMES), ids(MISSING, OTHER)}
    assert found.forced(MISSING).rows() == [("alias", [MISSING, OTHER], None)]


def test_what_was_decided_about_an_id_of_before_holds_for_that_of_now():
    aliases = {MISSING: "00000000000000bb", "00000000000000bb": IDS["carts"]}
    apart = decided(apart=[{"signature": MISSING}], rename=[{"signature": MISSING, "name": "lost carts"}])
    found = cluster(signatures(), apart, aliases)
    assert ids("carts") in partition(found)
    assert list(found.apart) == [IDS["carts"]]
    assert found.decided.rows() == [(IDS["carts"], "lost carts", None, None)]


def test_aliases_in_a_circle_are_one_failure():
    found = cluster(signatures(), aliases={IDS["orders"]: OTHER, OTHER: IDS["orders"]})
    assert partition(found) == {ids(*NAMES, OTHER)}


def test_a_cluster_has_the_name_and_category_of_its_own_id_before_those_of_other_members():
    told = decided(
        rename=[{"signature": IDS["users"], "name": "second"}, {"signature": IDS["orders"], "name": "first"}],
        category=[{"signature": IDS["items"], "category": "auth"}, {"signature": OTHER, "category": "unknown"}],
    )
    assert cluster(signatures(), told).decided.rows() == [
        (IDS["orders"], "first", "auth", "high"),
        (OTHER, None, "unknown", "medium"),
    ]
    harmless = decided(category=[{"signature": OTHER, "category": "auth", "severity": "low"}])
    assert cluster(signatures(), harmless).decided.rows() == [(OTHER, None, "auth", "low")]


numbers = st.sampled_from(range(12))
overrides = st.builds(
    lambda groups, apart: decided(
        together=[{"signatures": [f"{one:016x}" for one in sorted(group)]} for group in groups],
        apart=[{"signature": f"{one:016x}"} for one in sorted(apart)],
    ),
    st.lists(st.sets(numbers, min_size=2, max_size=3), max_size=3),
    st.sets(numbers, max_size=3),
)


def numbered(chosen):
    verbs = ("open", "load")
    rows = [(f"{one:016x}", f"could not {verbs[one % 2]} the table {'t' * (one + 2)} now", 0) for one in chosen]
    return pl.DataFrame(rows, schema={"signature_id": pl.String, "match_key": pl.String, "day": pl.Int64}, orient="row")


@settings(max_examples=120)
@given(st.sets(numbers), st.sets(numbers), overrides, st.dictionaries(numbers, numbers, max_size=2), st.randoms())
def test_with_overrides_too_order_does_not_matter_and_more_data_only_merge(some, more, people, former, random):
    aliases = {f"{old:016x}": f"{new:016x}" for old, new in former.items()}
    before = cluster(numbered(some), people, aliases)
    everything = list(some | more)
    after = cluster(numbered(everything), people, aliases)
    random.shuffle(everything)
    again = cluster(numbered(everything), people, aliases)
    assert again.members.equals(after.members)
    cluster_of = dict(after.members.select("signature_id", "cluster_id").iter_rows())
    for group in partition(before):
        assert len({cluster_of[one] for one in group}) == 1


YAML = f"""
together:
  - signatures: [{OTHER}, "{MISSING}"]
    reason: both are the full disk
apart:
  - signature: 1234567890123456
    reason: another team owns it
rename:
  - {{signature: {OTHER}, name: Full disk, reason: to be found}}
category:
  - {{signature: {OTHER}, category: out_of_memory, severity: low, reason: nightly}}
"""


@pytest.fixture
def read(tmp_path):
    def read(text):
        (tmp_path / "overrides.yaml").write_text(text)
        return read_overrides(tmp_path / "overrides.yaml")

    return read


def test_names_and_reasons_are_sanitized(read):
    told = read(YAML.replace("Full disk", "disk of ann@example.org").replace("nightly", "password=hunter2xyz"))
    assert told.rename[0].name == "disk of <email>"
    assert told.category[0].reason == "password=<secret>"


def test_a_file_of_overrides_is_read_and_an_id_of_digits_stays_one(read):
    told = read(YAML)
    assert told.apart[0].signature == "1234567890123456"
    assert (told.category[0].category, told.category[0].severity) == ("out_of_memory", "low")
    assert read("") == read("together:\n") == NO_OVERRIDES


def test_the_digest_is_of_what_is_decided_and_not_of_how_it_is_written(read):
    told = read(YAML)
    assert read(YAML.replace(f'{OTHER}, "{MISSING}"', f"{MISSING.upper()}, {OTHER}")).digest == told.digest
    assert read(YAML.replace("nightly", "daily")).digest != told.digest
    assert told.digest != NO_OVERRIDES.digest


@pytest.mark.parametrize(
    ("change", "where", "what", "fix"),
    [
        (("reason: another team owns it", "reason: ' '"), "apart.1.reason", "at least 1 character", "Say why"),
        (("    reason: another team owns it\n", ""), "apart.1.reason", "required", "Write it."),
        (("1234567890123456", "12345"), "apart.1.signature", "should match pattern", "16 hex digits"),
        ((f', "{MISSING}"', ""), "together.1.signatures", "at least 2 items", "two signatures"),
        ((MISSING, OTHER), "together.1.signatures", "stands twice", "Change it."),
        (("out_of_memory", "oom"), "category.1.category", "`oom` is no category", "Change it."),
        (("severity: low", "severity: tiny"), "category.1.severity", "'high', 'medium' or 'low'", "one of those"),
        (("rename:", "renamed:"), "renamed", "Extra inputs", "there are the lists"),
        (("apart:", "apart: [\n"), "line 7", "expected", "Check indentation"),
        (("rename:", "apart:"), "line 2", "`apart` stands twice", "Check indentation"),
    ],
    ids=str,
)
def test_a_mistake_is_told_with_where_what_and_how_to_mend_it(read, tmp_path, change, where, what, fix):
    with pytest.raises(OverridesError) as caught:
        read(YAML.replace(*change))
    (problem,) = caught.value.problems
    assert problem[0] == where
    assert what in problem[1]
    assert fix in problem[2]
    assert str(caught.value).startswith(str(tmp_path / "overrides.yaml"))


def test_a_file_that_is_not_there_or_no_text_is_told(tmp_path):
    with pytest.raises(OverridesError, match=r"file: it cannot be read \(No such file or directory\)"):
        read_overrides(tmp_path / "none.yaml")
    (tmp_path / "odd.yaml").write_bytes(b"\xff")
    with pytest.raises(OverridesError, match="it is not UTF-8"):
        read_overrides(tmp_path / "odd.yaml")


@pytest.mark.parametrize(
    ("lists", "says"),
    [
        (
            {"rename": [{"signature": OTHER, "name": name} for name in "ab"]},
            f"rename: the signature {OTHER} stands tw",
        ),
        (
            {
                "apart": [{"signature": OTHER, "from": IDS["users"]}],
                "together": [{"signatures": [OTHER, MISSING]}, {"signatures": [MISSING, IDS["users"]]}],
            },
            f"{OTHER} is apart from and together with {IDS['users']}",
        ),
        (
            {
                "rename": [{"signature": OTHER, "name": "a"}, {"signature": MISSING, "name": "b"}],
                "together": [{"signatures": [OTHER, MISSING]}],
            },
            "signatures that are together have two names, `a` and `b`",
        ),
    ],
    ids=["two names", "apart and together", "two names of what is together"],
)
def test_decisions_that_contradict_are_refused_with_a_sentence(lists, says):
    with pytest.raises(ValidationError, match=says):
        decided(**lists)
