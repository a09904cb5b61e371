//! Tests of resource sets: grammar, repository ids, overlap against brute force, path sets.

mod bounds;
mod grammar;
mod overlap;
mod repositories;
mod roundtrip;
