"""The rollout workers as one, the learner's ranks as one, and what passes between them."""
