"""File formats of data sets (IDX, CIFAR's pickles, folders of pictures), torchvision's downloads, and the cache."""

from trainables.data.files.cache import CACHE_VARIABLE, cache_folder, cached

__all__ = ["CACHE_VARIABLE", "cache_folder", "cached"]
