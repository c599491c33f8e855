"""config.yml made true: models and custom nodes on the disk, once, and never half."""
