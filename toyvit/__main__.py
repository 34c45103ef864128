# PYTHON_ARGCOMPLETE_OK
"""The command `toyvit`, and `python -m toyvit`: see `toyvit.cli`."""

import sys

from toyvit.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
