"""Models of others from files: which layouts there are, what their configurations may say, how they are built."""
