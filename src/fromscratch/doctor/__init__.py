"""What people regret about training at home, and what is checked before they do."""
