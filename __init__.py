"""Kineograph: video generation as graphs of typed nodes. Importing it loads nothing heavy."""

__version__ = "0.1.0"
