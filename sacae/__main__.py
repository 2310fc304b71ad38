"""`python -m sacae`, the same as the `sacae` command."""

import sys

from sacae.cli import main

sys.exit(main())
