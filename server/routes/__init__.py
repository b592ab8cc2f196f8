"""One file of routes for each thing that people ask the server about."""
