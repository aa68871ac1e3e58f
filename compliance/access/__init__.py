"""Who acts, what a role permits, and what a subject agreed to."""
