"""How much one call may ask for."""

from progan_service.serving.config import ServerConfig
from progan_service.serving.jobs.job import Job

_REPLY_OVERHEAD_BYTES = 64 * 2**10  # of a reply, beside images and latents
_REQUEST_OVERHEAD_BYTES = 64 * 2**10  # of a request, beside latents and labels


class Limits:
    """The limits of the configuration, as they apply to jobs.

    max_key_frames    of one walk
    max_reply_bytes   of one message
    """

    def __init__(self, config: ServerConfig) -> None:
        self.max_key_frames = config.max_images
        self._max_images = min(config.max_images, config.batching.max_queued_rows)  # more never fit the queue
        self.max_reply_bytes = config.max_reply_bytes

    def request_bytes(self, row_bytes: int) -> int:
        """Return the size of the largest useful request for one reply, or for a walk.

        row_bytes   of the latent and the labels of an image

        It is twice what they may take, so that a request for a few images too many is refused in words about images.
        """
        return 2 * max(self._max_images, self.max_key_frames) * row_bytes + _REQUEST_OVERHEAD_BYTES

    def most_images(self, image_bytes: int) -> int:
        """Return how many images of this size fit into one reply and into the queue; at least 1."""
        return max(1, min(self._max_images, (self.max_reply_bytes - _REPLY_OVERHEAD_BYTES) // image_bytes))

    def reply_problem(self, job: Job) -> str:
        """Return why the images of a job do not fit into one reply, or '' if they do."""
        count = job.latents.count
        if job.quota and count > job.quota.images_at_once:
            return f"asks for {count} images; {job.caller!r} may have {job.quota.images_at_once} at once"
        if count > self._max_images:
            return f"asks for {count} images; one call gives at most {self._max_images}"
        reply_bytes = count * job.image_bytes + _REPLY_OVERHEAD_BYTES
        if reply_bytes > self.max_reply_bytes:
            most = self.max_reply_bytes
            return f"asks for {count} images, up to {reply_bytes} bytes; a reply holds at most {most}"
        return ""
