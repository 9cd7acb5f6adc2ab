"""What a run will need, before it is started: memory, disk, time. Without torch."""
