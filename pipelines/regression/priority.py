"""How much a failure matters as a test: a weighted mean of shares that are each shown with their reason."""

from datetime import datetime, timedelta
from typing import Any

_WEIGHTS = {"severity": 3, "reach": 2, "recency": 2, "trend": 1, "determinism": 2}
_SEVERITY = {"high": 1.0, "medium": 0.6, "low": 0.3}
_TREND = {"rising": 1.0, "steady": 0.5, "unknown": 0.5, "falling": 0.2}
_HALF_REACH_USERS = 10
_HALF_LIFE = timedelta(days=7)


def prioritise(cluster: dict[str, Any], as_of: datetime) -> tuple[float, dict[str, dict[str, object]]]:
    """The priority of a cluster between 0 and 1, and its parts: the share, weight and reason of each.

    Severity by category; reach, half at ten users; recency, which halves in a week; trend; determinism, the share of
    runs with such an input that failed so. What is not known has no part.
    """
    users, last, trend = cluster["user_count"], cluster["last_seen_at"], cluster["trend"]
    days = max((as_of - last) / timedelta(days=1), 0.0)
    told: dict[str, tuple[float, str]] = {
        "severity": (_SEVERITY[cluster["severity"]], f"{cluster['category']} is of {cluster['severity']} severity"),
        "reach": (users / (users + _HALF_REACH_USERS), f"{users} users"),
        "recency": (
            0.5 ** (days / (_HALF_LIFE / timedelta(days=1))),
            f"last seen {days:.1f} days before the end of the data",
        ),
        "trend": (_TREND[trend], f"{trend}: {cluster['last_week_count']} a week after {cluster['week_before_count']}"),
    }
    if cluster["same_input_count"]:
        failed, runs = cluster["shaped_count"], cluster["same_input_count"]
        told["determinism"] = (failed / runs, f"{failed:,} of {runs:,} runs with such an input failed so")
    parts: dict[str, dict[str, object]] = {
        name: {"share": round(share, 4), "weight": _WEIGHTS[name], "reason": reason}
        for name, (share, reason) in told.items()
    }
    total = sum(_WEIGHTS[name] * share for name, (share, _) in told.items())
    return round(total / sum(_WEIGHTS[name] for name in told), 4), parts
