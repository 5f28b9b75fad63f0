"""The site in Falcon."""

import falcon
from falcon import Request, Response

from apps.frameworks.meeting import meet


class Hello:
    def on_get(self, request: Request, response: Response, name: str) -> None:
        response.content_type = falcon.MEDIA_TEXT
        response.text = f"Hello {name}"


class Echo:
    def on_post(self, request: Request, response: Response) -> None:
        response.content_type = falcon.MEDIA_TEXT
        response.text = request.get_media()["text"]


class Together:
    def on_get(self, request: Request, response: Response) -> None:
        response.text = meet(int(request.query_string))


class Fail:
    def on_get(self, request: Request, response: Response) -> None:
        raise RuntimeError("failed on purpose")


app = falcon.App()
app.add_route("/hello/{name}", Hello())
app.add_route("/echo", Echo())
app.add_route("/together", Together())
app.add_route("/fail", Fail())
