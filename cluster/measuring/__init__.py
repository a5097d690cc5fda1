"""What a policy does on tasks that it was never trained on, and how sure that is."""
