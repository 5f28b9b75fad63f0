"""The WSGI applications that the black-box tests serve, a module for each topic."""
