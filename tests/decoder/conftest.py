from tests import function_environment  # noqa: F401 # before a test imports a function
