"""The pages of the site."""

from django.urls import path

from guestbook import views

urlpatterns = [
    path("", views.hello, name="hello"),
    path("favicon.ico", views.favicon, name="favicon"),
    path("about/", views.about, name="about"),
    path("guestbook/", views.entries, name="entries"),
    path("guestbook/sign/", views.sign, name="sign"),
    path("uploads/", views.uploads, name="uploads"),
    path("uploads/<int:upload_id>/", views.download, name="download"),
]
