"""`streamrec demo`."""
