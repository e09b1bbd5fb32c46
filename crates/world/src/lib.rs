//! What users wrote, to what the mesh means: manifests in, model and statuses out. Pure and deterministic.
