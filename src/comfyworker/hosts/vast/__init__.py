"""The worker on Vast.ai: the PyWorker protocol, spoken natively."""
