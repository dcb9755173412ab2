"""From configuration to objects: the only room that knows both."""
