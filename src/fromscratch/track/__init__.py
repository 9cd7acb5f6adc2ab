"""Where a run's numbers go: JSON lines always, the console while a person watches."""
