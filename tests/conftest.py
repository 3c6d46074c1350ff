"""Settings of all tests: random cases come from fixed seeds and are not timed (a busy machine is no bug)."""

from hypothesis import settings

settings.register_profile("stembridge", deadline=None, derandomize=True)
settings.load_profile("stembridge")
