//! The binary `flyball`.
fn main() {}
