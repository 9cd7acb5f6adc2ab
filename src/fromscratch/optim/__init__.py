"""Optimisers: which parameter goes where, AdamW and Muon, and their state as plain tensors."""
