//! The fuzz targets, shared with the bounded run in `tests/fuzz`.

pub mod targets;
