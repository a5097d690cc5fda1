"""What a person does with the system: the commands, studies, reports, benches and the built-in models."""
