"""A small agent marketplace that never was: two weeks of its logs, the same on every machine, with known incidents."""

import hashlib
from pathlib import Path

from pipelines.demo.logs import Written, write_logs
from pipelines.demo.traffic import CANARY, DAYS, FIRST_DAY, INCIDENTS, LAST_DAY, traffic

FINDINGS = """
    select category, occurrence_count, to_char(first_seen_at, 'Mon DD HH24:MI'), array_to_string(agent_ids, ', '),
        template
    from agentmill.failure_clusters order by occurrence_count desc, cluster_id limit 6
"""
"""What failed most often."""

QUESTIONS = (
    (
        "select agent_name, sum(execution_count) as runs, sum(success_count)::float / sum(execution_count) as success "
        "from agent_metrics_daily group by 1 order by 3"
    ),
    (
        "select agent_version, status, sum(execution_count) as runs "
        "from execution_rollup_hourly where agent_id = 'invoice-reader' group by 1, 2 order by 1, 3 desc"
    ),
    (
        "select day, duration_p50_ms, duration_p95_ms, duration_count from agent_performance "
        "where agent_id = 'travel-planner' order by 1"
    ),
)
"""What to ask next: who succeeds, what the bad release did, what crept up."""

__all__ = [
    "CANARY",
    "CONFIG",
    "DAYS",
    "FINDINGS",
    "FIRST_DAY",
    "INCIDENTS",
    "LAST_DAY",
    "traffic",
    "write_demo",
    "write_logs",
]

CONFIG_NAME = "agentmill.yaml"

CONFIG = """\
# The demo: two sources of one small marketplace. Your own sources look just like these.
state_dir: {folder}/.agentmill
reports_dir: {folder}/reports
pseudonym_key_file: {folder}/agentmill.key
start_date: {first_day}

sources:
  app:                                    # the application: nested JSON, one object per line, gzipped
    path: {folder}/logs/app/*.ndjson.gz
    settle_seconds: 0                     # nobody is writing to these files any more
    mapping:
      execution_id: id
      agent_name: agent.name
      agent_version: agent.version
      execution_type: agent.kind
      environment: env
      user: user.id
      session: user.session
      client_ip: user.ip
      user_agent: user.agent
      status: {{from: state, values: {{errored: error}}}}
      started_at: started
      completed_at: ended
      queue_time_ms: timing.queue_ms
      ttft_ms: timing.ttft_ms
      provider: model.provider
      model: model.name
      input_tokens: usage.input
      cache_read_tokens: usage.cached
      output_tokens: usage.output
      cost_usd: cost_usd
      tool_names: tools
      error_type: error.type
      error_message: error.message
      stack: error.stack
      input: prompt
      output: reply

  batch:                                  # the batch workers: CSV, local times, exit codes
    path: {folder}/logs/batch/*.csv
    settle_seconds: 0
    timezone: Europe/Berlin
    mapping:
      execution_id: run_id
      agent_name: agent
      agent_version: version
      execution_type: {{value: batch}}
      environment: {{value: production}}
      user: user
      status:
        from: exit_code
        values: {{0: success, 1: failed, 2: error, 3: partial, 124: timeout, 130: cancelled}}
      started_at: start
      duration_ms: {{from: seconds, unit: s}}
      provider: case when model like 'claude%' then 'anthropic' else 'openai' end
      model: model
      input_tokens: input_tokens
      cache_read_tokens: cached_tokens
      output_tokens: output_tokens
      cost_usd: cost_usd
      error_type: "case when error like '%: %' then split_part(error, ':', 1) end"
      error_message: error
"""


def write_demo(folder: Path) -> Written:
    """Write the demo's logs, configuration and key below a folder, and tell what the logs hold.

    The key is the same everywhere, so that results can be compared. It protects nothing: the people are invented.
    """
    folder.mkdir(parents=True, exist_ok=True)
    key = folder / "agentmill.key"
    key.touch(mode=0o600)
    key.write_text(f"k1:{hashlib.sha256(b'agentmill demo').hexdigest()}\n")
    (folder / CONFIG_NAME).write_text(CONFIG.format(folder=folder.absolute(), first_day=FIRST_DAY))
    return write_logs(folder / "logs")
