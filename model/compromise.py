"""What works, but not quite as it was asked to."""


class Compromise(UserWarning):
    """Warned of where a slower or smaller way is taken; one line says which, and why."""
