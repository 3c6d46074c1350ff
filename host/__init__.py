"""The edges: where sound, files, networks and people meet the engine."""
