"""The model bundle: the folder in which a trainer hands a model to the workers.

This package alone knows the manifest. Every other file is named in the manifest with its size and
SHA-256, and whoever knows the manifest's own SHA-256 knows that nothing was changed. Files are
safetensors, and one index that only `index/` reads; nothing is pickled.
"""

from encoders.bundle.manifest import (
    REPORT_FILE,
    EncoderManifest,
    IndexRecord,
    Manifest,
    RetrieverManifest,
    bundle_path,
    bundle_reference,
    insist_on_files,
    read_manifest,
    vocabulary_fingerprint,
)
from encoders.bundle.read import Bundle, EncoderBundle, RetrieverBundle, read_bundle, read_encoder_bundle
from encoders.bundle.registry import ENCODERS, NETWORKS, RETRIEVERS, BundledEncoder, BundledRetriever
from encoders.bundle.write import (
    BundleDraft,
    EncoderDraft,
    RetrieverDraft,
    insist_on_writable,
    write_bundle,
)

__all__ = [
    "ENCODERS",
    "NETWORKS",
    "REPORT_FILE",
    "RETRIEVERS",
    "Bundle",
    "BundleDraft",
    "BundledEncoder",
    "BundledRetriever",
    "EncoderBundle",
    "EncoderDraft",
    "EncoderManifest",
    "IndexRecord",
    "Manifest",
    "RetrieverBundle",
    "RetrieverDraft",
    "RetrieverManifest",
    "bundle_path",
    "bundle_reference",
    "insist_on_files",
    "insist_on_writable",
    "read_bundle",
    "read_encoder_bundle",
    "read_manifest",
    "vocabulary_fingerprint",
    "write_bundle",
]
