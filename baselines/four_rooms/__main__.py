"""Runs the command."""

import sys

from baselines.four_rooms.command import PROG, main
from sacae import cli

if __name__ == "__main__":
    sys.exit(cli.guarded(main, sys.argv[1:], PROG))
