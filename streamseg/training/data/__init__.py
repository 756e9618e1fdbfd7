"""Images and annotations to train on, from files to batches with targets."""
