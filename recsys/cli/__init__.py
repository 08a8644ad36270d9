"""The command line, `recsys`."""
