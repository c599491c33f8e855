"""Still pictures as the client wants them: their format, their quality, what they tell of the workflow."""

from comfyworker.delivery.pictures.formats import check_format
from comfyworker.delivery.pictures.shaping import PictureShaper, Shape, Shaped

__all__ = ["PictureShaper", "Shape", "Shaped", "check_format"]
