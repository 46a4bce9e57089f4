"""Why a picture file cannot be used."""


class PictureError(Exception):
    """A picture cannot be used. The message is the reason, and follows the name of its file."""


class DamagedPictureError(PictureError):
    """A picture cannot be decoded. The message may quote the file."""
