"""The tasks that flows are put together from, by theme."""
