"""Prefect flows: order, retries and schedules for the functions of `recsys`."""

import os

# Before Prefect is imported: its client would send telemetry.
os.environ.setdefault("DO_NOT_TRACK", "true")
