"""Text to token ids and back: GPT-2's, a byte-level BPE of one's own, bytes, characters."""
