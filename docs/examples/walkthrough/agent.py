"""An agent that books invoices: no model and no network, so what it does wrong it does wrong every time.

python agent.py 1.4.0 --from 2026-03-02 --days 5    handles a working week of requests, and logs it
python agent.py 1.5.0                               handles the same requests now

It has a bug, like any agent: versions 1.4.0 and 1.5.0 cannot read an amount with a thousands separator.
"""

import argparse
import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

BROKEN = {"1.4.0", "1.5.0"}
LEDGER_KEY = "sk-proj-" + hashlib.sha256(b"the key of the ledger").hexdigest()
"""Invented. It has no business in a message, and gets into one."""
REQUESTS_A_DAY = 6
REQUESTS = [
    {"user": "ann.fischer@example.com", "document": "INV-2041", "total": "249.50"},
    {"user": "li.wei@example.com", "document": "INV-2042", "total": "12,400.00"},
    {"user": "ann.fischer@example.com", "document": "INV-2043", "total": "80.00", "text": "paper"},
    {"user": "omar.haddad@example.com", "document": "INV-2044", "total": "615.20"},
    {"user": "omar.haddad@example.com", "document": "INV-2045", "text": "a scan that nobody can read"},
    {"user": "li.wei@example.com", "document": "INV-2046", "total": "99.90", "items": [{"name": "chair"}]},
    {"user": "sara.nilsson@example.com", "document": "INV-2047", "total": "1,249.50"},
    {"user": "ann.fischer@example.com", "document": "INV-2048", "total": "18.75"},
    {"user": "sara.nilsson@example.com", "document": "INV-2049", "total": "402.00", "text": "train to Lund"},
    {"user": "omar.haddad@example.com", "document": "INV-2050", "total": "3,018.40"},
    {"user": "li.wei@example.com", "document": "INV-2051", "total": "7.00"},
    {"user": "li.wei@example.com", "document": "INV-2052", "total": "350.00", "items": [{"name": "lamp"}]},
    {"user": "ann.fischer@example.com", "document": "INV-2053", "total": "26,000.00"},
    {"user": "sara.nilsson@example.com", "document": "INV-2054", "total": "512.30"},
    {"user": "omar.haddad@example.com", "document": "INV-2055", "total": "61.00"},
]


def read_amount(text: str, version: str) -> float:
    """The amount that a text tells: `1,249.50` is 1249.5. This is the tool with the bug."""
    if version in BROKEN:
        return float(text)
    return float(text.replace(",", ""))


def book(request: dict, version: str) -> dict:
    """Book the invoice that a request is about. Raises LookupError or ValueError where it cannot be booked."""
    if "total" not in request:
        raise LookupError("the invoice names no total")
    return {"status": "booked", "value": read_amount(request["total"], version)}


def run(request: dict, version: str) -> dict:
    """Handle one request, and tell what came of it. The message of an error says more than it should."""
    try:
        return {"status": "success", "output": book(request, version)}
    except (LookupError, ValueError) as error:
        what = f"{error} ({request['document']} of {request['user']}, key {LEDGER_KEY})"
        return {"status": "failed", "error_type": type(error).__name__, "error_message": what}


def log_line(request: dict, version: str, started: datetime) -> dict:
    """Handle one request, and tell it as a line of the log."""
    result = run(request, version)
    return {
        "id": f"{started:%Y%m%dT%H%M%S.%f}-{request['document']}",
        "agent": {"name": "invoice-booker", "version": version},
        "environment": "production",
        "user": request["user"],
        "started": started.isoformat(),
        "ended": (started + timedelta(milliseconds=40)).isoformat(),
        "state": result["status"],
        "error": {"type": result.get("error_type"), "message": result.get("error_message")},
        "request": request,
        "reply": result.get("output"),
    }


def requests_of_days(first: date, days: int) -> Iterator[tuple[datetime, dict]]:
    """What is asked for on some days: the requests in turn, the first at nine o'clock, one each quarter of an hour."""
    for number in range(days * REQUESTS_A_DAY):
        day, place = divmod(number, REQUESTS_A_DAY)
        nine = datetime.combine(first + timedelta(days=day), time(9), UTC)
        yield nine + timedelta(minutes=15 * place), REQUESTS[number % len(REQUESTS)]


def requests_now() -> Iterator[tuple[datetime, dict]]:
    """All requests, at this moment."""
    for request in REQUESTS:
        yield datetime.now(UTC), request


def main() -> None:
    """Handle requests in one version, and append them to its log of the day."""
    parser = argparse.ArgumentParser(description="Book invoices, and log it.")
    parser.add_argument("version")
    parser.add_argument("--from", dest="first", type=date.fromisoformat, help="the first day; now where left out")
    parser.add_argument("--days", type=int, default=1)
    given = parser.parse_args()
    asked = requests_of_days(given.first, given.days) if given.first else requests_now()
    Path("logs").mkdir(exist_ok=True)
    states = []
    for started, request in asked:
        line = log_line(request, given.version, started)
        with Path("logs", f"{started:%Y-%m-%d}-{given.version}.ndjson").open("a") as log:
            log.write(json.dumps(line) + "\n")
        states.append(line["state"])
    print(f"invoice-booker {given.version}: {len(states)} requests, {states.count('failed')} failed")


if __name__ == "__main__":
    main()
