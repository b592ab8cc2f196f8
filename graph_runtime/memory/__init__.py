"""Weights on a device that is too small for all of them: what stays, what goes, what comes next."""
