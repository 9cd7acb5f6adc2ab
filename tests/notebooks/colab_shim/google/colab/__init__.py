"""What a notebook asks of Colab itself; elsewhere there is no such thing."""
