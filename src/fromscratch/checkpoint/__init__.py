"""Checkpoints: whole or absent, verified, free of pickle, and Hugging Face folders as they are."""
