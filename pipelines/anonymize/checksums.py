"""What distinguishes a card number, an account number or a random token from digits and letters that mean no harm."""

import math
import re
from collections import Counter

_HARMLESS_TOKEN = re.compile(
    r"(?:req|call|toolu|chatcmpl|msg|resp|run|thread|asst|file|step|trace|span)[-_]|[0-9a-f-]+$|[0-9A-F-]+$|[A-Za-z_-]+$"
    r"|sha\d+[-:]|[a-z]+(?:[-_/.][a-z0-9.]+)+$",
)
_RANDOM_BITS_PER_CHARACTER = 3.8
_SHORTEST_RUN = 16
"""Words joined by dashes or slashes are names and paths; random tokens have long runs without them."""
_IBAN_LENGTHS = range(15, 35)


def is_card(text: str) -> bool:
    """Payment card number: 13 to 19 digits with a valid Luhn check digit (ISO/IEC 7812-1), not all alike."""
    digits = [int(character) for character in text if character.isdigit()]
    if not 13 <= len(digits) <= 19 or len(set(digits)) == 1 or digits[0] not in (2, 3, 4, 5, 6):  # noqa: PLR2004
        return False
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]  # noqa: PLR2004
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def is_iban(text: str) -> bool:
    """International bank account number: remainder 1 modulo 97 (ISO 13616)."""
    compact = text.replace(" ", "")
    if len(compact) not in _IBAN_LENGTHS:
        return False
    return int("".join(str(int(character, 36)) for character in compact[4:] + compact[:4])) % 97 == 1


def is_opaque(text: str) -> bool:
    """Random-looking token: mixed letters and digits, high entropy, and none of the ids that help debugging."""
    if _HARMLESS_TOKEN.match(text):
        return False
    longest = max(re.split("[/_-]", text), key=len)
    is_mixed = all(re.search(kind, longest) for kind in ("[a-z]", "[A-Z]", "[0-9]"))
    return is_mixed and len(longest) >= _SHORTEST_RUN and _entropy(text) >= _RANDOM_BITS_PER_CHARACTER


def _entropy(text: str) -> float:
    """Shannon entropy in bits per character."""
    shares = [count / len(text) for count in Counter(text).values()]
    return -sum(share * math.log2(share) for share in shares)
