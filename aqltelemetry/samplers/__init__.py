"""What is observed at intervals."""
