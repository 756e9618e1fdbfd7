"""Frame results: how they are made, and their JSON Schema."""
