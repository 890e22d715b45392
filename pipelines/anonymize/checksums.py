"""What distinguishes a card number, an account number or a random token from digits and letters that mean no harm."""

import itertools
import math
import re
from collections import Counter
from collections.abc import Callable

_HARMLESS_TOKEN = re.compile(
    r"(?:req|call|toolu|srvtoolu|chatcmpl|cmpl|gen|msg|msgbatch|batch|resp|run|lc_run|thread|asst|file|step|trace|span|evt|event|item|conv"
    r"|conversation|ftjob|job|task|wf|flow|exec|rerank|embd|obs|prompt)[-_]|[0-9a-f-]+$|[0-9A-F-]+$|[A-Za-z_-]+$"
    r"|(?:sha\d+|SHA256|h1)[-:]|[a-z]+(?:[-_/.][a-z0-9.]+)+$|(?:[A-Z][a-z]{2,}\d?){3,}$",
)
_FOLDERS = re.compile(r"^(?:[a-z][a-z_-]+[0-9]{0,2}/)+|(?:/[a-z][a-z_-]+[0-9]{0,2})+$")
"""What a path has around a token: too short and too regular to tell anything of it where it belongs to it."""
_RANDOM_BITS_PER_CHARACTER = 3.8
_TOLD_BITS_PER_CHARACTER = 3.2
_SHORTEST_HEX = 24
_SHORTEST_PREFIXED = 14
_LEAST_SPELT = 0.75
_MOST_DIGITS = 2
_SHORTEST_RUN = 16
"""Words joined by dashes or slashes are names and paths; random tokens have long runs without them."""
_IBAN_LENGTHS = range(15, 35)
_CARD_LENGTHS = range(13, 20)
_SHORTEST_GROUP = 4


def find_card(text: str) -> str | None:
    """The payment card number in digits that may be grouped: 13 to 19 of them that pass `_is_card`."""
    return _find_grouped(text, re.compile("[0-9]+"), _is_card)


def find_iban(text: str) -> str | None:
    """The international bank account number in letters and digits that may be grouped."""
    return _find_grouped(text, re.compile("[A-Za-z0-9]+"), lambda word: _is_iban(word.upper()))


def _find_grouped(text: str, group: re.Pattern[str], is_value: Callable[[str], bool]) -> str | None:
    """The longest value made of whole groups: what stands beside it may look like one more group.

    A part of the text is trusted only if its groups are as long as people write them, else chance finds too much.
    """
    groups = list(group.finditer(text))
    spans = sorted(itertools.combinations(range(len(groups) + 1), 2), key=lambda span: span[0] - span[1])
    for first, end in spans:
        words = [found.group() for found in groups[first:end]]
        is_whole = len(words) == len(groups)
        if (is_whole or min(map(len, words[:-1] or words)) >= _SHORTEST_GROUP) and is_value("".join(words)):
            return text[groups[first].start() : groups[end - 1].end()]
    return None


def _is_card(digits: str) -> bool:
    """Valid Luhn check digit (ISO/IEC 7812-1), an issuer's first digit, and not all alike."""
    if len(digits) not in _CARD_LENGTHS or len(set(digits)) == 1 or digits[0] not in "23456":
        return False
    numbers = [int(digit) for digit in digits]
    doubled = [number * 2 - 9 * (number > 4) for number in numbers[-2::-2]]  # noqa: PLR2004
    return (sum(numbers[-1::-2]) + sum(doubled)) % 10 == 0


def _is_iban(compact: str) -> bool:
    """Country letters, then remainder 1 modulo 97 (ISO 13616)."""
    if len(compact) not in _IBAN_LENGTHS or not (compact[:2].isalpha() and compact[2:4].isdigit()):
        return False
    return int("".join(str(int(character, 36)) for character in compact[4:] + compact[:4])) % 97 == 1


def find_opaque(text: str) -> str | None:
    """The text itself where it is a random token: mixed, of high entropy, and none of the ids that help debugging."""
    if _HARMLESS_TOKEN.match(text):
        return None
    longest = max(re.split("[/_-]", text), key=len)
    if _is_spelt(text):
        return None
    is_mixed = all(re.search(kind, longest) for kind in ("[a-z]", "[A-Z]", "[0-9]"))
    is_random = is_mixed and len(longest) >= _SHORTEST_RUN and entropy(text) >= _RANDOM_BITS_PER_CHARACTER
    return _FOLDERS.sub("", text) if is_random else None


def find_prefixed(text: str) -> str | None:
    """The text itself where a random token stands behind a prefix that vendors use: `acme_live_...`."""
    longest = max(re.split("[_-]", text), key=len)
    is_mixed = all(re.search(kind, longest) for kind in ("[a-z]", "[A-Z]", "[0-9]"))
    is_random = is_mixed and len(longest) >= _SHORTEST_PREFIXED and entropy(longest) >= _TOLD_BITS_PER_CHARACTER
    return text if is_random and not (len(longest) > _SHORTEST_RUN and _is_spelt(longest)) else None


def _is_spelt(token: str) -> bool:
    """Whether most letters make words, as in `LongClassName2`: with vowels, and hardly a digit."""
    words = [word for word in re.findall("[A-Z]?[a-z]{3,}", token) if re.search("[aeiouyAEIOUY]", word)]
    digits = sum(map(str.isdigit, token))
    return digits <= _MOST_DIGITS and sum(map(len, words)) >= _LEAST_SPELT * (len(token) - digits)


def find_told(text: str) -> str | None:
    """The last word of a text that begins with what it is called, where it is random enough to be a secret."""
    name, glued, _ = re.split(r"[\s(\"'`]+", text)[0].partition(":")
    value = re.split(r"[\s(\"'`:=>]+", text.rstrip("="))[-1]
    if name.lower() == "token" or (glued and name.lower() == "secret"):  # of a language, or part of a resource's name
        return find_opaque(value)
    if re.fullmatch("(?:0x)?[0-9a-fA-F]+", value):
        return value if len(value) >= _SHORTEST_HEX else None
    is_mixed = all(re.search(kind, value) for kind in ("[A-Za-z]", "[0-9]"))
    is_random = is_mixed and entropy(value) >= _TOLD_BITS_PER_CHARACTER
    return value if is_random and not _HARMLESS_TOKEN.match(value) else None


def entropy(text: str) -> float:
    """Shannon entropy in bits per character."""
    shares = [count / len(text) for count in Counter(text).values()]
    return -sum(share * math.log2(share) for share in shares)
