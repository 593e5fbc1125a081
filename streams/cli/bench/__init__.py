"""`streamrec bench`: what an event costs, beside peers and beside the least that it could cost."""
