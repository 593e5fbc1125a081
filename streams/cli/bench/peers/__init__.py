"""What else one would write: the same recommender as stock Faust and Quix Streams programs, to compare with.

Each module is a process of its own, started with the options of `peers.options`, that answers every event
until it is told to stop. They share the model, its index and the rule of the window, and nothing of the hot path.
"""
