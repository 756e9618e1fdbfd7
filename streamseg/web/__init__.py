"""What a browser and a monitor see of a run: the live page, metrics and health, over HTTP."""
