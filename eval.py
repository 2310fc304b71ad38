"""Plays a trained agent back: python eval.py RUN_DIR. The same as `sacae eval`; --help lists every flag."""

import sys

from sacae.cli import run

if __name__ == "__main__":
    sys.exit(run("eval", sys.argv[1:], "eval.py"))
