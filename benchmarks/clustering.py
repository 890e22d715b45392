"""Clustering beside Drain3, with which logs are usually grouped, on the same messages in one run.

usage: python -m benchmarks.clustering [--messages N] [--python PATH]

A million messages of which most repeat an earlier one, as failures do; a million of which no two are alike, because of
their numbers, ids and paths; and a million of which half differ also in a word that no rule can know for a variable.

Drain3 is no dependency. `python -m venv drain && drain/bin/pip install drain3`, then `--python drain/bin/python`;
without it only ours is measured. It runs with its default settings twice: as it comes, and told to mask addresses, hex
digits and numbers, without which it takes each number for a word.

Figures are seconds of CPU, all threads counted. Ratios are what to look at: seconds differ by machine.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.adapters import cluster

_SYLLABLES = "ba ce di fo gu ha je ki lo mu na pe ri so tu va we xi yo zu".split()
_ERRORS = (
    "Rate limit reached for gpt-4o in organization org-{hex}: limit {n}, used {n}, retry in {n} ms",
    "tool {name} failed: connection refused by 10.0.{nn}.x:{n} after {n} s",
    "could not open the table {name} of the shop because it is locked by session {hex}",
    "HTTP {n} from upstream while reading /data/{name}/{n}.json: read timed out",
    "1 validation error for Invoice {hex}: total is no number: 'EUR {n},{nn}'",
    "step {n} of {n}: the agent gave no answer to the question of user {name} within {n} seconds",
    "KeyError: '{name}_{n}' in the response of request req_{hex}",
    "worker {n} on node-{nn} lost its lease for the task {name} after {n} retries",
)
_REPEATED_SHARE = 0.99
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
    started = time.process_time()
    found = {miner.add_log_message(line)["cluster_id"] for line in lines}
    figures += [time.process_time() - started, len(found)]
print(json.dumps(figures))
"""


def unlike(count: int, rng: random.Random) -> list[str]:
    """Messages that differ in values and words."""
    return _distinct(count, rng, names=len(_SYLLABLES) ** 5)


def unlike_in_values(count: int, rng: random.Random) -> list[str]:
    """Messages that differ in values: their names are few."""
    return _distinct(count, rng, names=20)


def _distinct(count: int, rng: random.Random, names: int) -> list[str]:
    said: dict[str, None] = {}
    while len(said) < count:
        said[rng.choice(_ERRORS).format_map(_Random(rng, names))] = None
    return list(said)


def repeating(count: int, rng: random.Random) -> list[str]:
    """Messages most of which were said before."""
    distinct = unlike(max(1, round(count * (1 - _REPEATED_SHARE))), rng)
    return rng.choices(distinct, k=count)


class _Random(dict[str, str]):
    """What fills a message, drawn anew."""

    def __init__(self, rng: random.Random, names: int) -> None:
        self._rng, self._names = rng, names

    def __missing__(self, kind: str) -> str:
        if kind == "name":
            number = self._rng.randrange(self._names)
            return "".join(_SYLLABLES[number // len(_SYLLABLES) ** place % len(_SYLLABLES)] for place in range(5))
        if kind == "hex":
            return f"{self._rng.getrandbits(64):016x}"
        return str(self._rng.randrange(10, 100 if kind == "nn" else 100_000))


def measure(messages: list[str], python: Path | None) -> dict[str, list[float]]:
    """CPU seconds and clusters, by tool."""
    started = time.process_time()
    found = len(set(cluster(messages)))
    figures = {"ours": [time.process_time() - started, found]}
    if python is not None:
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(messages, file)
            file.flush()
            told = subprocess.run([python, "-c", _DRAIN, file.name], capture_output=True, text=True, check=True)  # noqa: S603 - what the user named
        numbers = json.loads(told.stdout)
        figures |= {"drain3": numbers[:2], "drain3, masking": numbers[2:]}
    return figures


def main() -> None:
    """Print one row per kind of messages and tool."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--python", type=Path, help="of an environment with drain3")
    arguments = parser.parse_args()
    for kind in (repeating, unlike_in_values, unlike):
        figures = measure(kind(arguments.messages, random.Random(0)), arguments.python)  # noqa: S311 - to be repeated
        ours, _ = figures["ours"]
        for tool, (seconds, found) in figures.items():
            ratio = seconds / ours
            sys.stdout.write(f"{kind.__name__:<17} {tool:<16} {seconds:8.2f} s {found:>7} clusters {ratio:6.1f}\n")


if __name__ == "__main__":
    main()
