"""The model: configuration, network, initialisation, parameter counts, Hugging Face's format."""
