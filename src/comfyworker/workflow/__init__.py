"""The node graph: reading, checking and changing a workflow, as pure functions without I/O."""
