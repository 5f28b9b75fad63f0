"""A Django app that gives ``manage.py`` the command ``spawn``: add ``spawning.django`` to INSTALLED_APPS."""
