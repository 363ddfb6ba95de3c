"""`python -m callactors` is the command `callactors`."""

import sys

from callactors.cli import main

if __name__ == "__main__":
    sys.exit(main())
