//! The seeded simulation.
fn main() {}
