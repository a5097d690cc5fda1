"""What each command takes, and what it checks before anything starts."""
