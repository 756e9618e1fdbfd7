"""``python -m streamseg.schema``: print the schema."""

import sys

from streamseg.schema import schema_text

sys.stdout.write(schema_text())
