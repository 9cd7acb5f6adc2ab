"""What the curves of a run show, as findings with their evidence; docs/diagnosis.md lists them."""
