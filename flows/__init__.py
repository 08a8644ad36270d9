"""Prefect flows: order, retries and schedules for the functions of `recsys`."""

import os

# Before Prefect is imported: its client and its temporary server would send telemetry.
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
# A call of an API that does not answer is repeated after 2, 4 and 8 seconds, then given up.
os.environ.setdefault("PREFECT_CLIENT_MAX_RETRIES", "3")
