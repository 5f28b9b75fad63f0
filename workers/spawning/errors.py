"""What reading ``wsgi.input`` raises, with ``--stream-uploads``, when the client is the reason."""


class ClientError(OSError):
    """The body of a request cannot be read to its end: it is malformed, too large, or its client is gone."""


class ClientDisconnected(ClientError, ConnectionAbortedError):
    """The client broke off."""


class ClientTimeout(ClientError, TimeoutError):
    """The client stopped sending, or sent too slowly."""
