//! Tests of resource sets.
