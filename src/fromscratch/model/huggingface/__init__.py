"""Hugging Face's format: `mapping.py` is the way in and out; one file per architecture."""
