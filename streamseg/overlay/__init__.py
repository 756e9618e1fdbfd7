"""What is painted over a picture: masks, outlines, labels, trails; and what is made unrecognisable."""
