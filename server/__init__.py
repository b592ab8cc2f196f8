"""The HTTP server: FastAPI over the job queue. It knows no node and loads no torch: other processes run nodes."""
