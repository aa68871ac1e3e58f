"""A small simulated bank for the demo, the tests and the examples; nobody in it exists."""
