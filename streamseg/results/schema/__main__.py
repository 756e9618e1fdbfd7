"""``python -m streamseg.results.schema``: print the schema."""

import sys

from streamseg.results.schema import schema_text

sys.stdout.write(schema_text())
