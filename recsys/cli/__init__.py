"""The command line `recsys`."""
