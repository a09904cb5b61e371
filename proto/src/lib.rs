//! The wire contract: generated messages and services, and their conversion to core vocabulary.

pub mod transport;

/// What every message of the contract is: something that can be read from bytes.
pub use prost::Message;

/// Messages and services generated from `flyball/v1/flyball.proto`.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::or_fun_call,
    clippy::large_futures,
    reason = "generated code"
)]
pub mod v1 {
    tonic::include_proto!("flyball.v1");
}
