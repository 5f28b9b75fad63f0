"""Trac, its environment named by TRAC_ENV, with the authentication that a proxy does for it elsewhere."""

import os
from pathlib import Path

from trac.web.auth import BasicAuthentication
from trac.web.main import dispatch_request
from trac.web.standalone import AuthenticationMiddleware

_environment = Path(os.environ["TRAC_ENV"])
_accounts = BasicAuthentication(str(_environment / "htpasswd"), "real")
application = AuthenticationMiddleware(dispatch_request, {_environment.name: _accounts}, _environment.name)
