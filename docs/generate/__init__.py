"""What the site says of the code is made from the code, each time the site is built."""
