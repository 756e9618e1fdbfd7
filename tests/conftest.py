"""What all tests share."""

import os

# Tests run side by side, one per core: threads of their own would only get into each other's way.
os.environ["OMP_NUM_THREADS"] = "1"
