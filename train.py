"""Trains an agent: python train.py --domain cheetah --task run. The same as `sacae train`; --help lists every flag."""

import sys

from sacae.cli import run

if __name__ == "__main__":
    sys.exit(run("train", sys.argv[1:], "train.py"))
