"""Text to token shards, and token shards to batches whose order is a function of position."""
