#!/usr/bin/env python3
"""Segment cameras and recorded video: the same program as ``streamseg run``."""

import sys

from streamseg.cli import main

if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))
