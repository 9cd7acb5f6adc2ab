"""The one training loop: pretraining, finetuning and preferences differ in objective and data."""
