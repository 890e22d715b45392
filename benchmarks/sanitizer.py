"""The sanitizer beside Presidio's pattern recognizers and beside the same rules in Python's `re`, in one run.

usage: python -m benchmarks.sanitizer [--messages N] [--texts N]

A million messages, most of which are repeated, as in real logs; 200,000 log texts of about 500 bytes that are all
different; and texts made to be slow. Ours works on everything. The other two are called text by text, on samples of
which the rest is extrapolated. Presidio only finds values and need not replace them, with its pattern recognizers for
English and without a language model: called one by one, and through its engine as its users do, which looks at context
words too. It is no dependency: `pip install presidio-analyzer`.

Figures are per second of CPU, all threads counted. Ratios are what to look at: seconds differ by machine.
"""

import argparse
import random
import re
import time
from collections.abc import Callable, Sequence

import polars as pl

from pipelines.anonymize.rules import ESCAPED, KEEP, STAGES, Rule
from pipelines.anonymize.text import sanitize_texts

_RE_SAMPLE, _PRESIDIO_SAMPLE = 5_000, 2_000
_KILOBYTES = 100
_TOO_SLOW_SECONDS = 1.0
_LETTERS = "A-Za-z\u00aa-\u00ff\u0100-\u1fff\u2c00-\ud7ff"
_WORDS = (
    "agent tool call failed with timeout while reading response from model provider retry limit exceeded for task step "
    "unexpected token in JSON output schema validation connection refused by host file not found in workspace"
).split()
_HARMLESS = (
    "{words} after {n} s (attempt {n} of 5)",
    "HTTP {n} from model claude-sonnet-4-20250514: {words}",
    'File "/usr/lib/python3.11/site-packages/{word}/{word}.py", line {n}, in {word}_{word}',
    "request req_{hex}: {words}",
    "{word}Error: expected {n} items, got {n}: {words}",
    "2026-03-10T12:{nn}:{nn}.{n}Z INFO [{word}] step {n} of {n}: {words}",
    "commit {hex}{hex} of {word}/{word}: {words}",
)
_PERSONAL = (
    "mail to {word}.{word}{n}@example.org bounced: {words}",
    "open /home/{word}{n}/src/{word}.py: {words}",
    "connect 10.{n}.{nn}.{nn}:5432 refused: {words}",
    "Authorization: Bearer {token} rejected: {words}",
    "api_key={token} in the request of {word}: {words}",
)
_PERSONAL_SHARE = 0.15
_LINES = 6
_REPEATED_SHARE = 0.9
"""Of messages that were said before: most errors of a day are a few errors."""


def messages(count: int, rng: random.Random) -> list[str]:
    """Messages of which many repeat an earlier one, the early ones most."""
    said: list[str] = []
    for _ in range(count):
        is_new = not said or rng.random() > _REPEATED_SHARE
        said.append(_line(rng) if is_new else said[int(len(said) * rng.random() ** 3)])
    return said


def log_texts(count: int, rng: random.Random) -> list[str]:
    """Log texts of several lines, no two alike."""
    return [f"#{number} " + "\n".join(_line(rng) for _ in range(_LINES)) for number in range(count)]


def _line(rng: random.Random) -> str:
    template = rng.choice(_PERSONAL if rng.random() < _PERSONAL_SHARE else _HARMLESS)
    return re.sub(r"\{(\w+)\}", lambda found: _FILLERS[found[1]](rng), template)


_FILLERS: dict[str, Callable[[random.Random], str]] = {
    "word": lambda rng: rng.choice(_WORDS),
    "words": lambda rng: " ".join(rng.choices(_WORDS, k=6)),
    "n": lambda rng: str(rng.randrange(1, 600)),
    "nn": lambda rng: f"{rng.randrange(10, 60)}",
    "hex": lambda rng: f"{rng.getrandbits(80):020x}",
    "token": lambda rng: "".join(rng.choices("abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789", k=36)),
}


def pathological() -> list[str]:
    """Texts of 100 kB on which careless rules take minutes."""
    units = (
        *(
            "a",
            "1",
            " ",
            "=",
            "@",
            "a@",
            "a.b@c.",
            "password=",
            "/home/",
            "'\"",
            "4242 ",
            "a:",
            "sk-",
            "eyJ",
            "<",
            "\\",
        ),
        *("-----BEGIN PRIVATE KEY-----", "key: key ", "://", "https://a:", "?key=&", "Authorization: ", "C:\\Users\\"),
        *("1.1.", "ab:cd:", "+1 ", "DE89 ", "aA1", "user=", "token is ", "\U0001f525", "cookie: ", "é@", "<email>"),
    )
    size = _KILOBYTES * 1_000
    return [(unit * (size // len(unit.encode())))[:size] for unit in units]


class SameRules:
    """The rules and gates of ours, in Python's `re`, text by text."""

    def __init__(self) -> None:
        self._symbols: dict[str, str] = {KEEP: KEEP}
        for stage in STAGES:
            for rule in stage.rules:
                self._symbols.setdefault(rule.placeholder, chr(0xE100 + len(self._symbols)))
        shown = {name: symbol for name, symbol in self._symbols.items() if name.startswith("<")}
        self._placed = re.compile("|".join(map(re.escape, shown)))
        self._restored = {symbol: "" if name == KEEP else name for name, symbol in self._symbols.items()}
        self._stages = [
            (
                [[as_python(pattern) for pattern in look] for look in (stage.gates, stage.also) if look],
                [(as_python(rule.pattern), self._replacement(rule)) for rule in stage.rules],
            )
            for stage in STAGES
        ]

    def __call__(self, text: str) -> str:
        """Sanitize one text."""
        text = self._placed.sub(
            lambda found: self._symbols[found[0]], re.sub("[\ue000-\uf8ff]", "\N{REPLACEMENT CHARACTER}", text)
        )
        for looks, rules in self._stages:
            if all(any(pattern.search(text) for pattern in look) for look in looks):
                for pattern, replacement in rules:
                    text = pattern.sub(replacement, text)
        text = re.sub(rf"{ESCAPED}\x1b", r"\g<1>", text.replace(KEEP, ""))
        return re.sub("[\ue000-\uf8ff]", lambda found: self._restored[found[0]], text)

    def _replacement(self, rule: Rule) -> Callable[[re.Match[str]], str]:
        symbol, find = self._symbols[rule.placeholder], rule.find
        if find is not None:
            return lambda found: found[0].replace(find(found[0].lstrip(" \t\n'\"(")) or "\0", symbol)
        frame = re.sub(r"\$\{(\d)\}", r"\\g<\1>", rule.frame.replace("{}", symbol))
        return lambda found: found.expand(frame)


def as_python(pattern: str) -> re.Pattern[str]:
    """A Rust regex as Python spells it."""
    spelt = pattern.replace(r"(?-u:\b)", r"\b").replace(r"\p{L}{", f"[{_LETTERS}]{{").replace(r"\p{L}", _LETTERS)
    spelt = spelt.replace(r"\p{Lu}", "[A-ZÀ-ÖØ-Þ]").replace(r"\p{Ll}", "[a-zß-öø-ÿ]")
    return re.compile(re.sub(r"\\x\{([0-9A-F]{4})\}", lambda found: chr(int(found[1], 16)), spelt), re.ASCII)


def presidio() -> dict[str, Callable[[str], object]]:
    """Presidio's pattern recognizers, bare and as its engine calls them; nothing where it is not installed."""
    try:
        import spacy  # noqa: PLC0415
        import tldextract  # noqa: PLC0415
        from presidio_analyzer import AnalyzerEngine, PatternRecognizer, RecognizerRegistry  # noqa: PLC0415
        from presidio_analyzer.nlp_engine import SpacyNlpEngine  # noqa: PLC0415
    except ImportError:
        return {}
    tldextract.extract = tldextract.TLDExtract(suffix_list_urls=())  # the list it brings along, not the network's
    registry = RecognizerRegistry()
    registry.load_predefined_recognizers()
    registry.recognizers = [one for one in registry.recognizers if isinstance(one, PatternRecognizer)]
    words = SpacyNlpEngine(models=[{"lang_code": "en", "model_name": "blank"}])
    words.nlp = {"en": spacy.blank("en")}
    engine = AnalyzerEngine(registry=registry, nlp_engine=words)
    return {
        "Presidio, patterns alone": lambda text: [
            one.analyze(text, one.supported_entities, None) for one in registry.recognizers
        ],
        "Presidio, AnalyzerEngine": lambda text: engine.analyze(text, language="en"),
    }


def measure(work: Callable[[], object], count: int) -> float:
    """Texts per second of CPU."""
    started = time.process_time()
    work()
    return count / (time.process_time() - started)


def one_by_one(sanitize: Callable[[str], object], texts: Sequence[str]) -> float:
    """Texts per second of CPU of what takes one text at a time."""
    sanitize(texts[0])
    return measure(lambda: [sanitize(text) for text in texts], len(texts))


def compare(title: str, texts: list[str], rng: random.Random) -> None:
    """Print the figures of all sides on the same texts."""
    column = pl.Series(texts, dtype=pl.String)
    size = sum(len(text.encode()) for text in texts) / len(texts)
    print(f"\n{title}: {len(texts):,}, of which {column.n_unique():,} different, {size:.0f} bytes on average")
    ours = measure(lambda: sanitize_texts(column), len(texts))
    print(f"{'ours':<48}{ours:>12,.0f} per CPU-second")
    same, others = SameRules(), presidio()
    sample = rng.sample(texts, _RE_SAMPLE)
    sides = {f"`re`, same rules (sample of {_RE_SAMPLE:,})": one_by_one(same, sample)}
    for name, analyze in others.items():
        sides[f"{name} (sample of {_PRESIDIO_SAMPLE:,})"] = one_by_one(analyze, sample[:_PRESIDIO_SAMPLE])
    for side, speed in sides.items():
        print(f"{side:<48}{speed:>12,.0f} per CPU-second, ours is {ours / speed:,.1f} times as fast")
    alike = sum(same(text) == told for text, told in zip(sample, sanitize_texts(pl.Series(sample)), strict=True))
    print(f"`re` gives the same result for {alike / len(sample):.2%} of the sample")
    if not others:
        print("Presidio is not installed: `pip install presidio-analyzer` into this environment to compare with it.")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--texts", type=int, default=200_000)
    chosen = parser.parse_args()
    rng = random.Random(4)  # noqa: S311 - the same texts every time
    sanitize_texts(pl.Series(["compiles nothing, but loads everything: ann@example.org"]))
    said = messages(chosen.messages, rng)
    compare("messages", said, rng)
    compare("the same messages, each once", list(dict.fromkeys(said)), rng)
    compare("log texts", log_texts(chosen.texts, rng), rng)
    seconds = []
    for text in pathological():
        started = time.perf_counter()
        sanitize_texts(pl.Series([text]))
        seconds.append((time.perf_counter() - started, text[:12]))
    slowest, unit = max(seconds)
    over = sum(spent > _TOO_SLOW_SECONDS for spent, _ in seconds)
    print(
        f"\npathological texts of {_KILOBYTES} kB: {len(seconds)}, of which {over} take over {_TOO_SLOW_SECONDS:.0f} s"
    )
    print(f"the slowest takes {slowest:.3f} s ({unit!r} ...)")


if __name__ == "__main__":
    main()
