"""Run `m2m` as `python -m m2m`."""

from m2m.cli.main import main

main()
