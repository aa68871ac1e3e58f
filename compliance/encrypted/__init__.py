"""Computing on data that stays encrypted: scoring of linear models under CKKS."""
