"""What a policy does on named suites of tasks, and how sure that is."""
