"""The durable queue of jobs, their history, and what runs them. Knows no node, no HTTP and no torch."""
