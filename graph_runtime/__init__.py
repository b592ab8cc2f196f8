"""Runs graphs of typed nodes. Knows no video, no HTTP, and imports no torch."""
