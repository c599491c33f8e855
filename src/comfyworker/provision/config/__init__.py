"""config.yml: read, found where it may lie, and described by a schema."""
