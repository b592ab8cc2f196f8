"""Training as a graph: data, loss, optimizer and record nodes; knows no script."""
