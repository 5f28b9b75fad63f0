"""The two forms a visitor can fill in."""

from django import forms

from guestbook.models import Entry


class EntryForm(forms.ModelForm):
    """Leave a message."""

    class Meta:
        model = Entry
        fields = ("author", "message")


class UploadForm(forms.Form):
    """Send a file."""

    file = forms.FileField()
