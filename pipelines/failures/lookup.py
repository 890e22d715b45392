"""The text of a failure that a person names: by the id of an execution, of a signature or cluster, or by itself."""

from dataclasses import dataclass

from pipelines.failures.explain import Identity, identity_of
from pipelines.failures.text import failure_text
from pipelines.warehouse.connection import Warehouse

_FEWEST_CHARACTERS = 6
_EXECUTION = """
select failure.source, failure.execution_id, failure.event_time, failure.status, failure.error_type,
    failure.error_message, failure.stack, failure.agent_name
from agentmill.executions as failure
where failure.execution_id = %s and failure.status in ('failed', 'timeout', 'error')
order by failure.event_time desc, failure.source limit 1
"""
_SIGNATURE = """
select signature_id, match_key, sample_message
from agentmill.failure_signatures_daily
where signature_id = %s or (length(%s) >= %s and starts_with(signature_id, %s))
order by (signature_id = %s) desc, day desc, signature_id, sample_message limit 1
"""


@dataclass(frozen=True, slots=True)
class Named:
    """A failure's text and stack, and how it was found."""

    found: str
    message: str
    stack: str | None
    identity: Identity


def find_text(warehouse: Warehouse, name: str) -> Named | None:
    """The text that an execution, a signature or a cluster failed with; None where there is none of that name.

    Of an id of several sources or days the latest failure counts, of a signature the latest sample. The stack of a
    sample is not kept; what it is known by is.
    """
    rows = warehouse.read(_EXECUTION, [name])
    if rows.height:
        told = rows.with_columns(failure_text().alias("text")).row(0, named=True)
        when = f"{told['event_time']:%Y-%m-%d %H:%M} UTC"
        found = f"execution {name} of {told['source']}, {told['agent_name']}, {when}"
        return Named(found, told["text"], told["stack"], identity_of(told["text"], told["stack"]))
    samples = warehouse.read(_SIGNATURE, [name, name, _FEWEST_CHARACTERS, name, name])
    for signature_id, match_key, message in samples.iter_rows():
        return Named(f"signature {signature_id}", message, None, Identity(match_key, signature_id))
    return None
