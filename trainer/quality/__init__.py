"""Which models are compared on which data set, how each is set, and what that is worth.

`contenders` reads the models of a data set by name from TOML; `models` makes them, `fits` keeps what was fitted;
`compare` asks them. `cells` are the figures of the committed configurations, a file for each data set, model and seed;
`page` draws `docs/models.md` from these files and from the goals.
"""
