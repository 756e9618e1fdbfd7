"""The SOLO family: backbone, feature pyramid, head, post-processing, weights files."""
