"""Findings become documents: `render.report` words them, `render.write` puts them in a file."""
