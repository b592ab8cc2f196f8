"""What the commands do, one file for each part of the command line. Knows no node; goes through ``Runtime``."""
