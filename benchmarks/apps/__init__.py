"""The WSGI applications under load. Servers import them with the repository's root as current directory."""
