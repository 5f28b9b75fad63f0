"""Applications that cannot be loaded, each for a reason of its own."""

not_callable = "a string"
