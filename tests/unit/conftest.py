"""What all unit tests share."""

from hypothesis import settings

# Machines that run tests are shared, and a slow example says nothing of the code.
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")
