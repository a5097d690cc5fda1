"""What SFT imitates: demonstrations are made by playing experts, read, written, and held apart from the evaluation."""
