"""`python -m streams.cli`, the same as `streamrec`."""

from streams.cli.main import main

main()
