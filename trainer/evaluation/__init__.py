"""Models compared as the field's papers do: the same queries, full ranking, figures with intervals."""
