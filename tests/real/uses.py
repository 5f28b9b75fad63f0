"""What somebody does with each application: logs in, makes and reads something, uploads a file.

Each use returns a check that what was made is still there, in the same session.
"""

from __future__ import annotations

import base64
import hashlib
import random
import re
import struct
import zlib
from collections.abc import Callable

from applications import MAIL, PASSWORD, USER
from visitor import File, Visitor

from server import Server

Check = Callable[[], None]

UPLOAD_BYTES = 3 * 1024 * 1024
EVENTS = 1000
LOGINS_MAX = 5
NOISE = random.Random(11).randbytes(UPLOAD_BYTES)
BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


def picture() -> bytes:
    """A PNG of one megapixel of noise (RFC 2083)."""
    width = height = 1024

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + NOISE[row * width : (row + 1) * width] for row in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def wagtail(server: Server) -> Check:
    """Log in, upload a picture, find it, and read the site."""
    visitor = Visitor(server)
    token = visitor.field("/admin/login/", "csrfmiddlewaretoken")
    login = {"csrfmiddlewaretoken": token, "username": USER, "password": PASSWORD, "next": "/admin/"}
    assert visitor.send("/admin/login/", login).status == 302
    token = visitor.field("/admin/images/add/", "csrfmiddlewaretoken")
    form = {"csrfmiddlewaretoken": token, "title": "Noise", "collection": "1", "description": ""}
    file = File("noise.png", "image/png", picture())
    assert visitor.send("/admin/images/add/", {**form, "file": file}).status == 302

    def check() -> None:
        assert "Noise" in visitor.read("/admin/images/")
        assert "Wagtail" in visitor.read("/")

    return check


def rest_framework(server: Server) -> Check:
    """Log in to the browsable API, fetch a token, and make, read and upload something with it."""
    visitor = Visitor(server)
    token = visitor.field("/login/login/", "csrfmiddlewaretoken")
    login = {"csrfmiddlewaretoken": token, "username": USER, "password": PASSWORD, "next": "/groups/"}
    assert visitor.send("/login/login/", login).status == 302
    program = Visitor(server)
    assert program.call("POST", "/groups/", {"name": "x"}, expected=403)["detail"]
    key = program.call("POST", "/token/", {"username": USER, "password": PASSWORD})["token"]
    entitled = {"Authorization": f"Token {key}"}
    made = program.call("POST", "/groups/", {"name": "readers"}, entitled)
    fields = {**entitled, "Content-Type": "application/octet-stream"}
    sent = program.ask("PUT", "/upload/noise.bin", NOISE, fields).body
    assert hashlib.sha256(NOISE).hexdigest().encode() in sent

    def check() -> None:
        assert program.call("GET", "/groups/") == [made]
        shown = visitor.read("/groups/", Accept="text/html")
        assert "readers" in shown
        assert USER in shown, "still logged in"

    return check


def pgadmin4(server: Server) -> Check:
    """Log in, make a group of servers, and upload a file.

    It writes its sessions to the disk every ten seconds only, so that after a reload one logs in again.
    """
    visitor, vouched = _logged_in_to_pgadmin4(server)
    made = visitor.call("POST", "/browser/server_group/obj/", {"name": "Elsewhere"}, vouched)
    path = _file_dialog(visitor, vouched)
    file = File("noise.bin", "application/octet-stream", NOISE)
    visitor.send(path, {"currentpath": "/", "newfile": file, "mode": "add"}, vouched)

    def check() -> None:
        visitor, vouched = _logged_in_to_pgadmin4(server)
        groups = visitor.call("GET", "/browser/server_group/nodes/", fields=vouched)["data"]
        assert made["node"]["_id"] in [group["_id"] for group in groups]
        folder = {"mode": "getfolder", "path": "/", "file_type": "*", "show_hidden": False}
        assert "noise.bin" in str(visitor.call("POST", _file_dialog(visitor, vouched), folder, vouched))

    return check


def _logged_in_to_pgadmin4(server: Server) -> tuple[Visitor, dict[str, str]]:
    """It is meant for one process: a login that two generations have answered by turns has to be repeated."""
    for _ in range(LOGINS_MAX):
        visitor = Visitor(server, User_Agent="Mozilla/5.0")
        token = re.findall(r'"csrfToken": "([^"]*)"', visitor.read("/login"))[0]
        login = {"csrf_token": token, "email": MAIL, "password": PASSWORD, "internal_button": "Login"}
        assert visitor.send("/authenticate/login", login).status == 302
        script = visitor.read("/browser/js/utils.js")
        if found := re.findall(r"\['csrf_token'\] = '([^']*)'", script):
            return visitor, {"X-pgA-CSRFToken": found[0]}
    raise AssertionError("nobody can log in")


def _file_dialog(visitor: Visitor, vouched: dict[str, str]) -> str:
    dialog = {"dialog_type": "storage_dialog", "supported_types": ["*"]}
    opened = visitor.call("POST", "/file_manager/init", dialog, vouched)
    return f"/file_manager/filemanager/{opened['data']['transId']}/"


def trac(server: Server) -> Check:
    """Log in, write a ticket, and attach a file to it."""
    visitor = Visitor(server)
    visitor.ask("GET", "/login", fields={"Authorization": BASIC}, expected=(302, 303))
    form = {"field_summary": "It rains", "field_description": "In **bold**", "submit": "Create ticket"}
    visitor.send("/newticket", {"__FORM_TOKEN": visitor.field("/newticket", "__FORM_TOKEN"), **form})
    path = "/attachment/ticket/1/"
    form = {"__FORM_TOKEN": visitor.field(f"{path}?action=new", "__FORM_TOKEN"), "action": "new"}
    data = NOISE[:200_000]
    file = File("noise.bin", "application/octet-stream", data)
    visitor.send(path, {**form, "realm": "ticket", "id": "1", "attachment": file})

    def check() -> None:
        ticket = visitor.read("/ticket/1")
        assert "It rains" in ticket
        assert USER in ticket, "still logged in"
        assert visitor.ask("GET", "/raw-attachment/ticket/1/noise.bin").body == data

    return check


def radicale(server: Server) -> Check:
    """Make a calendar, put an event and then a thousand into it, and ask for them."""
    visitor = Visitor(server, Authorization=BASIC)
    head, end = "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//real//EN\r\n", "END:VCALENDAR\r\n"
    lines = ["BEGIN:VEVENT", "UID:{0}", "DTSTAMP:20260101T000000Z", "DTSTART:20260102T{1:02}0000Z"]
    event = "\r\n".join([*lines, "SUMMARY:{0}", "END:VEVENT", ""])
    calendar, whole = f"/{USER}/days/", f"/{USER}/year/"
    visitor.ask("MKCALENDAR", calendar, expected=201)
    kind = {"Content-Type": "text/calendar"}
    visitor.ask("PUT", f"{calendar}tea.ics", f"{head}{event.format('tea', 17)}{end}".encode(), kind, 201)
    many = head + "".join(event.format(f"day-{index}", index % 24) for index in range(EVENTS)) + end
    visitor.ask("PUT", whole, many.encode(), kind, 201)

    def check() -> None:
        assert b"SUMMARY:tea" in visitor.ask("GET", f"{calendar}tea.ics").body
        depth = {"Content-Type": "application/xml", "Depth": "1"}
        assert b"tea.ics" in visitor.ask("PROPFIND", calendar, b"", depth, 207).body
        assert visitor.ask("GET", whole).body.count(b"BEGIN:VEVENT") == EVENTS
        Visitor(server).ask("GET", calendar, expected=401)

    return check


USES: dict[str, Callable[[Server], Check]] = {
    "wagtail": wagtail,
    "rest-framework": rest_framework,
    "pgadmin4": pgadmin4,
    "trac": trac,
    "radicale": radicale,
}
