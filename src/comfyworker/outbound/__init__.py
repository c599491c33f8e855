"""Speaking to hosts that a request names, under guard; for files by URL, webhooks and object storage."""
