"""From interactions to windows to vectors: what trainer and worker share."""
