"""``python -m streamseg.cli``."""

import sys

from streamseg.cli import main

sys.exit(main())
