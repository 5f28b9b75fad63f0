"""The same small site in one framework after the other.

Each greets at `/hello/NAME`, echoes a posted form's `text` at `/echo`, answers `/together?N` when N requests
are in it at once, and fails at `/fail`.
"""
