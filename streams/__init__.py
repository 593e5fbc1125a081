"""The running service: transport, agents, pipeline, state, hot reload, and what an operator sees of it."""
