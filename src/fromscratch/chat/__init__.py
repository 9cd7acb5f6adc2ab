"""Conversations, and the one place that renders them: training, evaluation, chat and server."""
