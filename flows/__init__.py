"""Prefect flows: order, retries and schedules for the functions of `recsys`."""

import os

# Before prefect is imported: its client would report to its makers that it is used.
os.environ.setdefault("DO_NOT_TRACK", "true")
