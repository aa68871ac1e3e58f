"""Differential privacy: plans, private training, accounting and the budget ledger."""
