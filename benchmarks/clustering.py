"""Clustering beside Drain3, with which logs are usually grouped, on the same messages in one run.

usage: python -m benchmarks.clustering [--messages N] [--kinds FEW MANY] [--python PATH]

A million messages of which most repeat an earlier one, as failures do; a million of which no two are alike, because of
their numbers, ids and paths; and a million of which half differ also in a word that no rule can know for a variable.

Each is said in eight kinds of failures and in four hundred. A kind is a sentence with places for values, put together
from what speaks, what it could not do, with what, why, and what else is told: 4 to 40 words, 15 in the mean, as the
texts have that tell real agents' failures. Half of the kinds name a table, tool or user by a word. Many kinds share
their first words and their length, as real ones do. They are as frequent as Zipf's law says: of four hundred, the
first makes up 15 % of the messages, the last hundred together 4 %. Drain3 is at its best with eight.

Drain3 is no dependency. `python -m venv drain && drain/bin/pip install drain3`, then `--python drain/bin/python`;
without it only ours is measured. It runs with its default settings twice: as it comes, and told to mask addresses, hex
digits and numbers, without which it takes each number for a word.

Figures are seconds of CPU, all threads counted, and seconds by the clock: ours uses all cores, Drain3 one. Ratios are
what to look at: seconds differ by machine.
"""

import argparse
import itertools
import json
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.adapters import cluster

_SYLLABLES = "ba ce di fo gu ha je ki lo mu na pe ri so tu va we xi yo zu".split()
_SPEAKERS = (
    "",
    "",
    "",
    "Error: ",
    "Error code: {status} - ",
    "{exception}: ",
    "{exception}: ",
    "step {n} of {n}: ",
    "[{time}] ERROR ",
    "tool {tool} failed: ",
    "agent run {hex}: ",
    "worker {n} on node-{nn}: ",
)
_EXCEPTIONS = ("ValueError TimeoutError PermissionError RateLimitError APIError ToolError").split()
_STATUSES = "400 404 422 429 500 503".split()
_TOOLS = "search browser python shell calendar retriever".split()
_DEEDS = (
    "could not open",
    "could not read",
    "could not write to",
    "failed to parse",
    "failed to load",
    "failed to fetch",
    "cannot reach",
    "cannot decode",
    "gave up on",
    "refused to delete",
    "was not allowed to call",
    "lost the connection to",
    "timed out while waiting for",
    "ran out of memory in",
    "received no answer from",
    "stopped halfway through",
)
_PLAIN_THINGS = (
    "the vector index of shard {n}",
    "/data/exports/{n}/report_{n}.json",
    "https://api.example.org/v1/items/{n}",
    "the session {hex}",
    "batch {n} of the nightly import",
    "the response of request req_{hex}",
    "10.0.{nn}.x:{n}",
    "page {n} of the search results",
    "the upstream service",
    "the completion of model gpt-4o",
    "a chunk of {n} bytes",
    "the sandbox {hex}",
)
_NAMED_THINGS = (
    "the table {name}",
    "the tool {name}",
    "the queue {name} of the shop",
    "the profile of user {name}",
    "/home/<user>/{name}/{n}.csv",
    "the column {name} of sheet {n}",
    "the prompt {name} of version {n}",
    "the collection {name} on shard {n}",
    "the branch {name} of the repository",
    "'{name} {n}'",
    "the feature {name} in region eu-west-{nn}",
    "the secret {name} of the vault",
)
_CAUSES = (
    *[""] * 14,
    "because it is locked by session {hex}",
    "because the quota of {n} tokens is used up",
    "since the lease ended {n} s ago",
    "while the index was rebuilt",
    "with exit code 137",
    "as the schema wants a number and got 'EUR {n},{nn}'",
    "due to a certificate that was valid until {time}",
    "because the model answered in plain text where an object with {n} fields was asked for",
    "since the context of {n} tokens is longer than the {n} that this model can take in one request",
    "as no worker was free",
    "while step {n} still held the lock",
    "because the checksum {hex} is not the expected {hex}",
)
_ENDINGS = (
    *[""] * 14,
    "after {n} retries",
    "within {n} ms",
    "(request id req_{hex})",
    "at line {n}",
    "; trying again in {n} s",
    "and the run {hex} was stopped",
    "; check the settings of the workspace and start the run again, or ask the owner of agent {n}",
    "; the last of {n} messages was sent {n} s before and no tool was called since",
)
_FEW, _MANY = 8, 400
_SHORTEST, _LONGEST = 4, 40
_REPEATED_SHARE = 0.99
_FEW_NAMES, _ALL_NAMES = 20, len(_SYLLABLES) ** 5
_DRAIN = """
import json, sys, time
from drain3 import TemplateMiner
from drain3.masking import MaskingInstruction
from drain3.template_miner_config import TemplateMinerConfig
lines = json.load(open(sys.argv[1]))
masks = [(r"\\b\\d+\\.\\d+\\.\\d+\\.\\w+\\b", "IP"), (r"\\b(?:0x)?[0-9a-f]{8,}\\b", "HEX"), (r"[-+]?\\b\\d+\\b", "NUM")]
figures = []
for instructions in ([], [MaskingInstruction(*mask) for mask in masks]):
    config = TemplateMinerConfig()
    config.masking_instructions = instructions
    miner = TemplateMiner(config=config)
    started, since = time.process_time(), time.perf_counter()
    found = {miner.add_log_message(line)["cluster_id"] for line in lines}
    figures.append([time.process_time() - started, time.perf_counter() - since, len(found)])
print(json.dumps(figures))
"""


def kinds(count: int, rng: random.Random) -> list[str]:
    """Different sentences with places for values, the most frequent first. Every second one has a place for a word."""
    said: dict[str, None] = {}
    while len(said) < count:
        things = _NAMED_THINGS if len(said) % 2 else _PLAIN_THINGS
        speaker = rng.choice(_SPEAKERS).replace("{exception}", rng.choice(_EXCEPTIONS))
        speaker = speaker.replace("{status}", rng.choice(_STATUSES)).replace("{tool}", rng.choice(_TOOLS))
        parts = (f"{speaker}{rng.choice(_DEEDS)}", rng.choice(things), rng.choice(_CAUSES), rng.choice(_ENDINGS))
        sentence = " ".join(filter(None, parts)).replace(" ;", ";")
        if _SHORTEST <= len(sentence.split()) <= _LONGEST:
            said[sentence] = None
    return list(said)


def unlike(count: int, said_in: int, rng: random.Random) -> list[str]:
    """Messages that differ in values and words."""
    return _distinct(count, said_in, rng, names=_ALL_NAMES)


def unlike_in_values(count: int, said_in: int, rng: random.Random) -> list[str]:
    """Messages that differ in values: their names are few."""
    return _distinct(count, said_in, rng, names=_FEW_NAMES)


def _distinct(count: int, said_in: int, rng: random.Random, names: int) -> list[str]:
    sentences = kinds(said_in, rng)
    shares = list(itertools.accumulate(1 / rank for rank in range(1, said_in + 1)))
    said: dict[str, None] = {}
    while len(said) < count:
        for sentence in rng.choices(sentences, cum_weights=shares, k=count - len(said)):
            said[sentence.format_map(_Random(rng, names))] = None
    return list(said)


def repeating(count: int, said_in: int, rng: random.Random) -> list[str]:
    """Messages most of which were said before."""
    distinct = unlike(max(1, round(count * (1 - _REPEATED_SHARE))), said_in, rng)
    return rng.choices(distinct, k=count)


class _Random(dict[str, str]):
    """What fills a message, drawn anew."""

    def __init__(self, rng: random.Random, names: int) -> None:
        self._rng, self._names = rng, names

    def __missing__(self, kind: str) -> str:
        number = self._rng.getrandbits(64)
        if kind == "name":
            number %= self._names
            return "".join(_SYLLABLES[number // len(_SYLLABLES) ** place % len(_SYLLABLES)] for place in range(5))
        if kind == "hex":
            return f"{number:016x}"
        if kind == "time":
            return f"2026-{number % 12 + 1:02}-{number % 28 + 1:02}T{number % 24:02}:{number % 60:02}:{number % 59:02}Z"
        return str(10 + number % (90 if kind == "nn" else 99_990))


@dataclass(frozen=True, slots=True)
class Figures:
    """What it took to cluster some messages: seconds of CPU, seconds by the clock; and how many clusters there are."""

    cpu_s: float
    wall_s: float
    clusters: int


def measure(messages: list[str], python: Path | None) -> dict[str, Figures]:
    """Figures by tool."""
    started, since = time.process_time(), time.perf_counter()
    found = len(set(cluster(messages)))
    figures = {"ours": Figures(time.process_time() - started, time.perf_counter() - since, found)}
    if python is not None:
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(messages, file)
            file.flush()
            told = subprocess.run([python, "-c", _DRAIN, file.name], capture_output=True, text=True, check=True)  # noqa: S603 - what the user named
        plain, masking = (Figures(*row) for row in json.loads(told.stdout))
        figures |= {"drain3": plain, "drain3, masking": masking}
    return figures


def main() -> None:
    """Print one row per sort of messages, number of kinds and tool."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--kinds", type=int, nargs="+", default=[_FEW, _MANY])
    parser.add_argument("--python", type=Path, help="of an environment with drain3")
    arguments = parser.parse_args()
    cluster(repeating(arguments.messages // 100, _FEW, random.Random(1)))  # noqa: S311 - what is loaded once is not measured
    for sort, said_in in itertools.product((repeating, unlike_in_values, unlike), arguments.kinds):
        messages = sort(arguments.messages, said_in, random.Random(0))  # noqa: S311 - to be repeated
        figures = measure(messages, arguments.python)
        ours = figures["ours"]
        for tool, told in figures.items():
            seconds = f"{told.cpu_s:8.2f} s of CPU {told.wall_s:8.2f} s by the clock {told.clusters:>7} clusters"
            ratios = f"{told.cpu_s / ours.cpu_s:6.1f} {told.wall_s / ours.wall_s:6.1f}"
            sys.stdout.write(f"{sort.__name__:<17}{said_in:>4} kinds  {tool:<16}{seconds} {ratios}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
