"""Audits: plans of checks, and what they found."""
