"""`python -m dsgd.cli` is `dsgd`."""

import sys

from dsgd.cli import main

if __name__ == "__main__":
    sys.exit(main())
