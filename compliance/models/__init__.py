"""Trained models: how they become bytes without pickle, and how those are sealed and signed."""
