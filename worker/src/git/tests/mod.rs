//! Tests of the git part against real repositories and real servers.

mod fencing;
mod fixture;
mod journal;
mod others;
mod runner;
mod servers;
mod snapshot;
mod workspace;
