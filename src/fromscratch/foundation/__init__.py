"""What every room may lean on: errors, files, seeds, schedules, the world and the hardware."""
