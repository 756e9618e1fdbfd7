"""Results in Redis: the publisher, the status of streams, and subscribers."""
