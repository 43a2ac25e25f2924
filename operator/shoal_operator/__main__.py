"""`python -m shoal_operator` is the `shoal` command."""

import sys

from shoal_operator.cli import main

if __name__ == "__main__":
    sys.exit(main())
