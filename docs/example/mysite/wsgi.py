"""What the server calls: `spawn mysite.wsgi.application`."""

import os

from django.conf import settings
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")

application = get_wsgi_application()

# `runserver` serves the style sheets of the admin by itself; any other server needs this, or, in
# production, a web server in front that serves STATIC_URL from the disk.
if settings.DEBUG:
    application = StaticFilesHandler(application)
