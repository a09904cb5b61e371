//! Manifests: parsing, validation with field paths and suggestions, JSON Schema.
