"""``python -m anec``."""

import sys

from anec.cli import main

sys.exit(main())
