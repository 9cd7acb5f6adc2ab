"""Commands in processes that need not import anything."""
