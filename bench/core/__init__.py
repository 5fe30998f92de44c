"""The core in one process: state, patches, turns, workers, memory."""
