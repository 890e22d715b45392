"""The words by which failures are told apart: names of exceptions, outcomes, states, and request methods."""

EXCEPTION_ENDING = "(?:Error|Exception|Warning|Timeout|Expired|Interrupt|Exit|Fault|Refused|Rejected|Denied|NotFound)"
EXCEPTION = rf"[A-Z]\w*{EXCEPTION_ENDING}"
"""The name of an exception, without its module."""

_OUTCOMES = (
    "error",
    "fail",
    "exception",
    "warning",
    "timeout",
    "denied",
    "refused",
    "rejected",
    "reset",
    "expired",
    "missing",
    "exceeded",
    "invalid",
    "unauthori[sz]ed",
    "forbidden",
    "unavailable",
    "unreachable",
    "unexpected",
    "unsupported",
    "overloaded",
    "abort",
    "cancell?ed",
    "crash",
    "corrupt",
    "conflict",
    "duplicate",
    "truncated",
    "interrupt",
    "killed",
)
_STATES = (
    "not|no|never|none|without|unknown|already|too|timed|out|empty|full|busy|locked|read|write|open|close|opened|closed"
    "|start|stop|starting|stopping|started|stopped|begin|end|ending|send|receive|sent|received|connect|connected"
    "|disconnect|disconnected|disconnecting|connecting|create|created|creating|delete|deleted|deleting|destroyed|removed|added|pause|paused"
    "|resume|resumed|success|successful|successfully|ok|on|off|enabled?|disabled?|active|inactive|up|down|true|false"
    "|before|after|above|below|less|more|min|max|input|output|http|https|get|post|put|patch|head|options"
)
KEPT = rf"{'|'.join(_OUTCOMES)}|^@|^(?:\d+|{_STATES})$"
"""A lower-case word that says what happened, a status or a frame: never a variable."""

TELLS_OUTCOME = rf"(?i-u:\b(?:{'|'.join(_OUTCOMES)}|failed|failure|aborted|closed|lost|timed out|not|cannot)\b)"
"""Whether a quotation is a message rather than a value."""
