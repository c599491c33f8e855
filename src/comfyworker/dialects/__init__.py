"""What requests and answers look like, for each client that is served; no I/O."""
