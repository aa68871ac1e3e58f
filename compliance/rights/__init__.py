"""Data-subject requests: found in every store, planned, approved, carried out, proved."""
