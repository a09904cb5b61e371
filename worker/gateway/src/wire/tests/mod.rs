//! Tests of the wire protocols.

mod requests;
