"""A model behind an HTTP address: an API that clients know, and a page."""
