//! Tests of the git part against real repositories and real servers.

mod fixture;
mod journal;
mod snapshot;
mod workspace;
