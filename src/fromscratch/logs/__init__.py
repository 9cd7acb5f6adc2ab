"""Other trainers' logs, read into run folders that `report` shows like our own."""
