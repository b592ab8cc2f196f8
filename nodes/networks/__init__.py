"""Plain torch networks and functions: everything that is useful without a graph, and knows none."""
