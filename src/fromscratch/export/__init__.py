"""Models for other programs, and other programs' models for us: each reloaded and compared."""
