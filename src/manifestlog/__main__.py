"""`python -m manifestlog`."""

import sys

from manifestlog.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
