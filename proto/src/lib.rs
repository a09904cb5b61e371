//! The wire contract: generated messages and services, and their conversion to core vocabulary.

pub mod renewal;
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

impl std::fmt::Debug for v1::SetSecretRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SetSecretRequest({}/{}, ***)", self.namespace, self.name)
    }
}

impl std::fmt::Debug for v1::SetupProvider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SetupProvider({}, ***)", self.name)
    }
}

impl std::fmt::Debug for v1::FetchedSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FetchedSecret({}, ***)", self.name)
    }
}

impl std::fmt::Debug for v1::JoinRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JoinRequest({}, {:?}, ***)", self.token_id, self.node)
    }
}

impl std::fmt::Debug for v1::CreateTokenResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CreateTokenResponse({:?}, ***)", self.info)
    }
}
