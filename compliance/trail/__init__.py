"""The audit store: an append-only Merkle log of canonical event bytes (RFC 6962)."""
