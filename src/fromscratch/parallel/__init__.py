"""Several processes that train as one: who they are, what they agree on, how a model is shared."""
