"""From query vectors to the nearest items, by inner product."""
