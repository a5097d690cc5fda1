"""What a study is made of: its cells, where they run, and the model they start from."""
