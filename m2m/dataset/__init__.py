"""Read training files: rows become token sequences with a mark on each token to train on."""

from m2m.dataset.packing import BatchStream, pack, pack_all
from m2m.dataset.rows import Row, load_dataset
from m2m.dataset.samples import RowLimit, Sample, common_prefix, dataset_fingerprint, encode, split

__all__ = [
    "BatchStream",
    "Row",
    "RowLimit",
    "Sample",
    "common_prefix",
    "dataset_fingerprint",
    "encode",
    "load_dataset",
    "pack",
    "pack_all",
    "split",
]
