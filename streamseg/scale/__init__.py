"""More than one engine: on one machine, and over the machines of a Ray cluster."""
