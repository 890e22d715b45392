import json
import re
import subprocess
import sys
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from pathlib import Path

import pytest
from conftest import KEY_TEXT, REPOSITORY, as_frame
from hypothesis import given
from hypothesis import strategies as st

from pipelines.execution import EXECUTION
from pipelines.pricing import OBSTACLE, cache_saving, estimate, price
from pipelines.pricing.book import (
    DECIMALS,
    KINDS,
    SHIPPED,
    Model,
    PriceBook,
    PriceFileError,
    load_prices,
    read_price_file,
)
from pipelines.settings import ConfigError, Settings

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
OWN = """\
models:
  - provider: acme
    model: wizard
    also: [wizard-large]
    prices:
      - {input: 1.1, output: 4.4}
      - {from: 2026-03-10, input: 3, cache_read: 0.3, cache_write: 3.75, output: 15}
      - {from: 2026-03-12, up_to_input_tokens: 1000, input: 0.000001, output: 0.000001}
"""


def ran(**overrides):
    return {
        "source": "app",
        "execution_id": "r1",
        "model": "wizard",
        "event_time": NOON,
        "input_tokens": 1000,
        "output_tokens": 100,
        "cost_source": "unpriced",
        **overrides,
    }


@pytest.fixture
def own(tmp_path):
    """Load the shipped prices and a file of one's own."""

    def load(text=OWN):
        path = tmp_path / "prices.yaml"
        path.write_text(text)
        return load_prices(path)

    return load


def told(book, **overrides):
    """What one execution costs, or why that is not known."""
    row = estimate(as_frame([ran(**overrides)], EXECUTION), book).row(0)
    assert row[0] is None or row[1] is None
    return row[0] if row[1] is None else row[1]


@pytest.mark.parametrize(
    ("used", "usd"),
    [
        ({}, "0.0045"),
        ({"cache_read_tokens": 400}, "0.00342"),
        ({"cache_read_tokens": 400, "cache_write_tokens": 600}, "0.00387"),
        ({"output_tokens": 100, "reasoning_tokens": 90}, "0.0045"),
        ({"input_tokens": 0, "output_tokens": 0}, "0"),
        ({"input_tokens": 10**12, "output_tokens": 10**12}, "18000000"),
        ({"input_tokens": 1, "output_tokens": 0}, "0.000003"),
    ],
    ids=str,
)
def test_each_kind_of_tokens_has_its_price(own, used, usd):
    assert told(own(), **used) == Decimal(usd)


@pytest.mark.parametrize(
    ("at", "usd"),
    [
        (datetime(2026, 3, 9, 23, 59, 59, 999_999, tzinfo=UTC), "0.00154"),
        (datetime(2026, 3, 10, tzinfo=UTC), "0.0045"),
        (datetime(2026, 3, 11, 23, 59, 59, 999_999, tzinfo=UTC), "0.0045"),
        (datetime(2026, 3, 12, tzinfo=UTC), "0.0000000011"),
        (datetime(2020, 1, 1, tzinfo=UTC), "0.00154"),
    ],
    ids=str,
)
def test_a_price_holds_from_its_utc_day_until_that_of_the_next(own, at, usd):
    assert told(own(), event_time=at) == Decimal(usd)


@pytest.mark.parametrize(
    ("given", "obstacle"),
    [
        ({"model": None}, "no model"),
        ({"model": "wizard-2"}, "unknown model"),
        ({"model": "wiz"}, "unknown model"),
        ({"input_tokens": None}, "no tokens"),
        ({"output_tokens": None}, "no tokens"),
        ({"event_time": datetime(2026, 3, 9, tzinfo=UTC), "cache_read_tokens": 1}, "no price for a kind"),
        ({"event_time": datetime(2026, 3, 9, tzinfo=UTC), "cache_write_tokens": 1}, "no price for a kind"),
        ({"event_time": datetime(2026, 3, 12, tzinfo=UTC), "input_tokens": 1001}, "too many input tokens"),
        ({"model": "dated", "event_time": datetime(2026, 3, 9, 23, tzinfo=UTC)}, "no price on the day"),
    ],
    ids=str,
)
def test_what_cannot_be_told_is_not_guessed_and_says_why(own, given, obstacle):
    dated = "  - {provider: acme, model: dated, prices: [{from: 2026-03-10, input: 1, output: 1}]}\n"
    assert told(own(OWN + dated), **given) == obstacle
    assert obstacle in OBSTACLE.categories


def test_no_tokens_of_a_kind_need_no_price(own):
    before = datetime(2026, 3, 9, tzinfo=UTC)
    assert told(own(), event_time=before, cache_read_tokens=0, cache_write_tokens=0) == Decimal("0.00154")


def test_half_a_unit_is_rounded_to_the_even_one(own):
    book = own(OWN.replace("input: 0.000001", "input: 0.00005").replace("output: 0.000001", "output: 0"))
    at = datetime(2026, 3, 12, tzinfo=UTC)
    costs = [told(book, event_time=at, input_tokens=tokens, output_tokens=0) for tokens in (1, 2, 3, 4, 5)]
    assert costs == [Decimal(n) / 10**10 for n in (0, 1, 2, 2, 2)]


TOKENS = st.integers(0, 10**12)
USD = st.decimals(0, 100_000, places=DECIMALS)


def cost_of(prices, tokens):
    """The sum of tokens times price, independently of what is tested."""
    with localcontext() as context:
        context.prec = 80
        usd = sum((prices[kind] * tokens[kind] for kind in KINDS), Decimal(0)) / 1_000_000
        return usd.quantize(Decimal("1E-10"), ROUND_HALF_EVEN)


@given(st.lists(st.tuples(*[TOKENS] * 4), min_size=1, max_size=5), st.tuples(*[USD] * 4))
def test_a_computed_cost_is_exact_and_grows_with_the_tokens(counts, usd):
    prices = dict(zip(KINDS, usd, strict=True))
    book = PriceBook({"wizard": [model_of(prices)]})
    tokens = [dict(zip(KINDS, one, strict=True)) for one in counts]
    more = [{**one, kind: one[kind] + 1} for one in tokens for kind in KINDS]
    rows = [
        ran(
            input_tokens=one["input"] + one["cache_read"] + one["cache_write"],
            cache_read_tokens=one["cache_read"],
            cache_write_tokens=one["cache_write"],
            output_tokens=one["output"],
        )
        for one in tokens + more
    ]
    costs = estimate(as_frame(rows, EXECUTION), book)["computed_usd"].to_list()
    assert costs == [cost_of(prices, one) for one in tokens + more]
    assert all(costs[len(tokens) + n] >= costs[n // len(KINDS)] for n in range(len(more)))


def model_of(prices):
    text = {kind: str(usd) for kind, usd in prices.items()}
    return Model.model_validate({"provider": "acme", "model": "wizard", "prices": [text]})


def test_only_an_absent_cost_is_computed_and_the_sum_is_exact(source, own):
    rows = [ran(), ran(cost_usd=Decimal(7), cost_source="provided"), ran(model="unheard-of"), ran()]
    rows += [ran(cost_usd=Decimal(0), cost_source="provided")]
    priced = price(as_frame(rows, EXECUTION), source(), own())
    assert priced.schema == EXECUTION
    assert priced["cost_source"].to_list() == ["computed", "provided", "unpriced", "computed", "provided"]
    assert priced["cost_usd"].to_list() == [Decimal("0.0045"), Decimal(7), None, Decimal("0.0045"), Decimal(0)]
    many = price(as_frame([ran(input_tokens=n) for n in range(1000)], EXECUTION), source(), own())
    assert many["cost_usd"].sum() == Decimal("2.9985")


def test_a_source_may_decline(source, own):
    rows = as_frame([ran()], EXECUTION)
    assert price(rows, source(compute_cost=False), own()).equals(rows)


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("gpt-4o", "gpt-4o"),
        (" GPT-4o ", "gpt-4o"),
        ("openai/gpt-4o", "gpt-4o"),
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("openai/gpt-4o-2024-11-20", "gpt-4o"),
        ("gpt-4o-2024-05-13", "gpt-4o-2024-05-13"),
        ("azure/openai/gpt-4o-mini", "gpt-4o-mini"),
        ("models/gemini-1.5-pro", "gemini-1.5-pro"),
        ("gemini-1.5-pro-latest", "gemini-1.5-pro"),
        ("mistral-large-latest", None),
        ("claude-3-5-sonnet-20241022", "claude-3-5-sonnet"),
        ("claude-3-5-sonnet@20240620", "claude-3-5-sonnet"),
        ("anthropic/claude-3.5-sonnet", "claude-3-5-sonnet"),
        ("us.anthropic.claude-3-5-sonnet-20241022-v2:0", "claude-3-5-sonnet"),
        ("anthropic.claude-3-haiku-20240307-v1:0", "claude-3-haiku"),
        ("bedrock/eu.amazon.nova-pro-v1:0", "nova-pro"),
        ("claude-sonnet-4-20250514", "claude-sonnet-4-0"),
        ("gpt-4o-audio-preview", None),
        ("gpt-4o-2024", None),
        ("gpt-4o-20240806-20240806", None),
        ("groq/gpt-4o", None),
        ("my-gpt-4o", None),
        ("gpt", None),
        ("", None),
    ],
)
def test_a_model_is_known_by_its_names_only(prices, name, model):
    found = prices.find(name)
    assert (found and found.model) == model


def test_of_several_providers_the_executions_own_is_taken(own):
    both = OWN + "  - {provider: other, model: wizard, prices: [{input: 7, output: 7}]}\n"
    assert told(own(both), provider="Acme") == Decimal("0.0045")
    assert told(own(both), provider="other") == Decimal("0.0077")
    assert told(own(both), provider="third") == "unknown model"
    assert told(own(both)) == "unknown model"
    assert told(own(), provider="third") == Decimal("0.0045")


def test_a_users_model_takes_the_place_of_the_shipped_one_under_all_its_names(own, prices):
    text = "models:\n  - {provider: us, model: gpt-4o, prices: [{input: 1, output: 1}]}\n"
    mine = own(text)
    assert {mine.find(name).provider for name in ("gpt-4o", "openai/gpt-4o-2024-08-06")} == {"us"}
    by_alias = own(text.replace("gpt-4o", "claude-sonnet-4-0"))
    assert {by_alias.find(name).provider for name in ("claude-sonnet-4", "claude-4-sonnet")} == {"us"}
    assert mine.find("gpt-4o-mini") == prices.find("gpt-4o-mini")
    assert mine.find("gpt-4o-2024-05-13") == prices.find("gpt-4o-2024-05-13")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("input: 1.1", "input: dear"), "models.wizard.prices.0.input: Input should be a valid decimal"),
        (("input: 1.1", "input: -1"), "models.wizard.prices.0.input"),
        (("input: 1.1", "input: .nan"), "models.wizard.prices.0.input"),
        (("input: 1.1", "input: 0.1234567"), "no more than 6 decimal places"),
        (("input: 1.1", "inptu: 1.1"), "models.wizard.prices.0.inptu: Extra inputs are not permitted"),
        (("2026-03-12", "2026-03-10"), "models.wizard.prices: order the prices by `from`"),
        (("from: 2026-03-10, ", ""), "order the prices by `from`"),
        (("2026-03-12", "soon"), "models.wizard.prices.2.from"),
        (("model: wizard", "model: wizard-large"), "`wizard-large` of acme stands twice"),
        (("input: 1.1", "input: 1, input: 2"), "line 6: `input` stands twice"),
        (("models:", "models: ["), "line "),
        (("    also: [wizard-large]\n", "    source: hearsay\n"), "the source `hearsay` of wizard is not among"),
        ((OWN, ""), "valid dictionary"),
        ((OWN, "a: \x01"), "it is not YAML"),
    ],
    ids=str,
)
def test_a_mistake_in_a_users_file_is_told_with_file_and_place(own, tmp_path, change, says):
    with pytest.raises(PriceFileError) as caught:
        own(OWN.replace(*change))
    assert str(caught.value).startswith(str(tmp_path / "prices.yaml"))
    assert says in str(caught.value)


def test_a_users_file_that_cannot_be_read_is_a_mistake_of_the_configuration(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml cannot be used:\n  file: it cannot be read"):
        Settings(prices_file=tmp_path / "none.yaml").read_prices()
    (tmp_path / "odd.yaml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="it is not UTF-8"):
        Settings(prices_file=tmp_path / "odd.yaml").read_prices()
    assert Settings().read_prices() == load_prices()


def test_the_price_file_in_the_documentation_is_valid(own):
    (text,) = re.findall(r"```yaml\n(models:.*?)```", (REPOSITORY / "docs" / "sources.md").read_text(), re.DOTALL)
    assert told(own(text), model="meta-llama/Llama-3.3-70B-Instruct") == Decimal("0.00022")


@pytest.mark.parametrize("command", [["config", "check", "--json"], ["run"], ["source", "preview", "app"]], ids=str)
def test_the_command_line_refuses_a_bad_price_file(tmp_path, source, write_log, record, command):
    write_log(record())
    (tmp_path / "prices.yaml").write_text(OWN.replace("1.1", "dear"))
    config = {
        "state_dir": str(tmp_path / "state"),
        "prices_file": str(tmp_path / "prices.yaml"),
        "pseudonym_key": KEY_TEXT,
        "sources": {"app": source().model_dump(mode="json", by_alias=True, exclude={"name"}, exclude_defaults=True)},
    }
    (tmp_path / "agentmill.yaml").write_text(json.dumps(config))
    agentmill = Path(sys.executable).with_name("agentmill")
    done = subprocess.run([agentmill, *command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "models.wizard.prices.0.input" in done.stdout + done.stderr
    assert not (tmp_path / "state").exists()


def test_the_shipped_prices_are_valid_sorted_and_sourced():
    shipped = read_price_file(SHIPPED)
    assert len(shipped.models) > 100
    order = [(model.provider, model.model) for model in shipped.models]
    assert order == sorted(set(order))
    assert {model.source for model in shipped.models} == set(shipped.sources)
    assert date.fromisoformat(shipped.version) >= max(origin.read for origin in shipped.sources.values())
    names = [name for model in shipped.models for name in model.names]
    assert len(names) == len(set(names))
    dear = [
        (model.model, held.start)
        for model in shipped.models
        for held in model.prices
        if held.input is None or held.output is None or not (held.cache_read or 0) <= held.input <= held.output
    ]
    assert dear == []


@pytest.mark.parametrize(
    ("overrides", "saved"),
    [
        ({"cache_read_tokens": 1_000}, Decimal("0.0027")),  # 1,000 x (3 - 0.3) / 1,000,000
        ({"cache_read_tokens": 400, "cache_write_tokens": 600}, Decimal("0.00063")),  # writing cost 0.00045 more
        ({"cache_write_tokens": 1_000}, Decimal("-0.00075")),
        ({}, Decimal(0)),
        ({"input_tokens": None, "cache_read_tokens": 1_000}, None),
        ({"model": "nobody-knows-it", "cache_read_tokens": 1_000}, None),
        ({"event_time": NOON.replace(day=9), "cache_read_tokens": 1_000}, None),  # no price for cached input then
        ({"event_time": NOON.replace(day=12), "input_tokens": 1_001}, None),  # no price for as long an input
    ],
)
def test_what_a_cache_saved_is_the_list_price_of_the_input_less_what_it_cost(own, overrides, saved):
    executions = as_frame([ran(**overrides)], EXECUTION)
    assert cache_saving(executions, own()).to_list() == [saved]
