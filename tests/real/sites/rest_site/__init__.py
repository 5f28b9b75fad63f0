"""A small site of Django REST framework: the browsable API, tokens, and an upload."""
