"""Prefect flows: order, retries and schedules for the functions of `recsys`."""
