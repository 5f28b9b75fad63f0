"""Groups of users as the resource, and an upload whose checksum is the answer."""

import hashlib
from typing import Any

from django.contrib.auth.models import Group
from django.urls import include, path
from rest_framework.authtoken.views import obtain_auth_token
from rest_framework.decorators import api_view, parser_classes
from rest_framework.parsers import FileUploadParser
from rest_framework.response import Response
from rest_framework.routers import DefaultRouter
from rest_framework.serializers import HyperlinkedModelSerializer
from rest_framework.viewsets import ModelViewSet


class GroupSerializer(HyperlinkedModelSerializer):
    class Meta:
        model = Group
        fields = ("url", "name")


class GroupViewSet(ModelViewSet):
    queryset = Group.objects.order_by("name")
    serializer_class = GroupSerializer


@api_view(["PUT"])
@parser_classes([FileUploadParser])
def upload(request: Any, filename: str) -> Any:
    """Return what a file's contents add up to."""
    digest = hashlib.sha256()
    for chunk in request.data["file"].chunks():
        digest.update(chunk)
    return Response({"name": filename, "sha256": digest.hexdigest()})


router = DefaultRouter()
router.register("groups", GroupViewSet)
urlpatterns = [
    path("", include(router.urls)),
    path("upload/<str:filename>", upload),
    path("token/", obtain_auth_token),
    path("login/", include("rest_framework.urls")),
]
