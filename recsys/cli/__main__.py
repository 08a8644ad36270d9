"""`python -m recsys.cli`: the command `recsys`."""

from recsys.cli.main import main

main()
